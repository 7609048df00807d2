# The health check of etc/stator.Dockerfile: ends with 0 if Stator's own /monitor answers 200. Python's image has no
# curl and no wget.
import os
import sys
from http.client import HTTPConnection

host = os.environ.get("STTR_SERVER_HOST") or "127.0.0.1"
port = int(os.environ.get("STTR_SERVER_PORT") or 8087)
connection = HTTPConnection(host, port, timeout=4)
connection.request("GET", "/monitor")
sys.exit(connection.getresponse().status != 200)
