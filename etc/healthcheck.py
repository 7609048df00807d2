# The health check of etc/stator.Dockerfile: ends with 0 if Stator's own /monitor answers 200, or asks for credentials,
# which are not for us to have: then it is alive at least. Python's image has neither curl nor wget, and http.client
# would take half as much memory again.
import os
import socket
import sys

host = os.environ.get("STTR_SERVER_HOST") or "127.0.0.1"
port = int(os.environ.get("STTR_SERVER_PORT") or 8087)
connection = socket.create_connection((host, port), timeout=4)
if os.environ.get("STTR_SERVER_CERTFILE"):
    import ssl

    # Our own, whose certificate need not have this name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(connection)
with connection:
    connection.sendall(b"GET /monitor HTTP/1.0\r\n\r\n")
    status_line = connection.makefile("rb").readline()
sys.exit(status_line.split()[1:2] not in ([b"200"], [b"401"], [b"403"]))
