# The environment of a developer's shell, with Consul on this machine: `source etc/dev.sh`.
# A Consul in a container can't check 127.0.0.1: give it STTR_ROSTER_SERVICE_IPADDRESS, an address that it reaches.
export STTR_SERVER_PORT=8087
export STTR_LOGGER_MAXLEN=999
export STTR_CLIENT_BASEURI=http://localhost:8500
export STTR_ROSTER_SERVICE_ID=123654
export STTR_ROSTER_SERVICE_NAME=stator
export STTR_ROSTER_SERVICE_TAGS=dev,metrics
