# The health check of etc/stator.Dockerfile: ends with 0 if Stator's own /monitor answers 200, or asks for credentials,
# which are not for us to have: then it is alive at least. Python's image has neither curl nor wget, and http.client
# would take half as much memory again.
import os
import re
import socket
import sys

host = os.environ.get("STTR_SERVER_HOST") or "127.0.0.1"
port = int(os.environ.get("STTR_SERVER_PORT") or 8087)
connection = socket.create_connection((host, port), timeout=4)
web_config, alive = os.environ.get("STTR_SERVER_WEBCONFIG"), [b"200", b"401", b"403", b"429"]
if web_config:
    # Without a parser of YAML, which Python does not have.
    with open(web_config, encoding="utf-8") as file:  # noqa: PTH123 # pathlib takes memory
        web_config = "\n".join(line.partition("#")[0] for line in file)
    if "RequireAndVerifyClientCert" in web_config:
        alive.append(b"")  # the connection is closed, since we have no certificate
if os.environ.get("STTR_SERVER_CERTFILE") or re.search(r"""\bcert(_file)?["']?\s*:""", web_config or ""):
    import ssl

    # Our own, whose certificate need not have this name.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = context.wrap_socket(connection)
with connection:
    connection.sendall(b"GET /monitor HTTP/1.0\r\n\r\n")
    status_line = connection.makefile("rb").readline()
status = (status_line.split() or [b"", b""])[1]
sys.exit(status not in alive)
