"""A backend with OpenSSL, in plain Python: reports what it knows of the connection, or echoes frames.

Its argument is JSON: chain and key, and optionally client_ca, alpn, tls12 and unix.
"""

import base64
import hashlib
import json
import os
import socket
import ssl
import sys
import threading

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

options = json.loads(sys.argv[1])
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(options["chain"], options["key"])
if "client_ca" in options:
    context.load_verify_locations(options["client_ca"])
    context.verify_mode = ssl.CERT_REQUIRED
if "alpn" in options:
    context.set_alpn_protocols(options["alpn"])
if options.get("tls12"):
    context.maximum_version = ssl.TLSVersion.TLSv1_2
requested = {}


def record_name(connection, name, _):
    requested[connection] = name


context.sni_callback = record_name


def common_name(connection):
    certificate = connection.getpeercert() or {}
    return [value for part in certificate.get("subject", ()) for (name, value) in part]


def serve(accepted):
    try:
        with context.wrap_socket(accepted, server_side=True) as connection:
            about = {
                "sni": requested.pop(connection, None),
                "alpn": connection.selected_alpn_protocol(),
                "version": connection.version(),
                "resumed": connection.session_reused,
                "client": common_name(connection),
            }
            for number in range(1, 1000):
                if not answer(connection, {**about, "request": number}):
                    return
    except (OSError, ssl.SSLError) as error:
        print(f"failed {error}", flush=True)


def answer(connection, about):
    head = b""
    while b"\r\n\r\n" not in head:
        received = connection.recv(4096)
        if not received:
            return False
        head += received
    fields = dict(
        line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line
    )
    fields = {name.lower(): value for name, value in fields.items()}
    if fields.get("upgrade", "").lower() == "websocket":
        digest = hashlib.sha1((fields["sec-websocket-key"] + GUID).encode()).digest()
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        while received := connection.recv(65536):
            # Frames of clients are masked, those of servers are not: unmask, and answer.
            connection.sendall(unmasked(connection, received))
        return False
    body = json.dumps({**about, "host": fields.get("host")}).encode()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return "close" not in fields.get("connection", "").lower()


def unmasked(connection, data):
    """One complete frame with a short payload, as the tests send them."""
    while len(data) < 6 or len(data) < 6 + (data[1] & 0x7F):
        data += connection.recv(65536)
    length = data[1] & 0x7F
    mask, payload = data[2:6], data[6 : 6 + length]
    plain = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([data[0], length]) + plain


if "unix" in options:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(options["unix"])
else:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
listener.listen(128)
name = listener.getsockname()
print("listening", name[1] if isinstance(name, tuple) else 0, os.getpid(), flush=True)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
