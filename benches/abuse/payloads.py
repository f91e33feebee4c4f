"""The bytes that attackers send."""

import base64
import itertools
import random
import socket
import ssl
import zlib

KEY = b"\x11\x22\x44\x88"
TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9
# What one write of an attack that repeats small units has at least.
WRITE_BYTES = 16 << 10


def many(unit):
    """The unit as often as it takes to fill a write."""
    return unit * max(1, WRITE_BYTES // len(unit))


# ---- TLS ----

def hello(name="localhost"):
    """A ClientHello."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return first_flight(context.wrap_bio(ssl.MemoryBIO(), out := ssl.MemoryBIO(), server_hostname=name), out)


def first_flight(connection, out):
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
    raise AssertionError("a handshake without an answer")


def one_byte_records(flight):
    """The same handshake message in records of one byte."""
    version, message = flight[:3], flight[5:]
    return b"".join(version + b"\x00\x01" + message[at:at + 1] for at in range(len(message)))


def names(count):
    """ClientHellos with different names, none of which the server has."""
    return [hello(f"n{number}.example.com") for number in range(count)]


def ticketed(host, port, chain, count):
    """ClientHellos that resume a session with tickets that the server never issued."""
    context = ssl.create_default_context(cafile=chain)
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection((host, port), 5) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(b"GET /quick/?size=1&message=0 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(1 << 10)
            session = connection.session
    found = []
    for _ in range(count):
        out = ssl.MemoryBIO()
        sent = bytearray(first_flight(context.wrap_bio(
            ssl.MemoryBIO(), out, server_hostname="localhost", session=session), out))
        # The ticket is the first part of the last extension; the binder of 32 or 48 bytes follows.
        end = len(sent) - 64
        for at in range(end - 40, end):
            sent[at] = random.randrange(256)
        found.append(bytes(sent))
    return found


# ---- HTTP ----

def head(target="/hostile/hold", method="GET", fields=(), host="localhost"):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def upgrade(target="/hostile/sink", fields=()):
    key = base64.b64encode(bytes(16)).decode()
    return head(target, fields=("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {key}",
                                "Sec-WebSocket-Version: 13", *fields))


def deflating(target="/hostile/sink"):
    return upgrade(target, ("Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover",))


def encoded(text, times):
    """Percent-encoded again and again."""
    for _ in range(times):
        text = "".join(f"%{byte:02x}" for byte in text.encode())
    return text


# ---- WebSocket ----

def frame(payload=b"", opcode=BINARY, fin=True, compressed=False):
    first = fin << 7 | compressed << 6 | opcode
    length = len(payload)
    if length < 126:
        header = bytes([first, 0x80 | length])
    elif length < 1 << 16:
        header = bytes([first, 0x80 | 126]) + length.to_bytes(2, "big")
    else:
        header = bytes([first, 0x80 | 127]) + length.to_bytes(8, "big")
    return header + KEY + bytes(byte ^ key for byte, key in zip(payload, itertools.cycle(KEY)))


def fragments(payload, compressed=False, between=b""):
    """A message with one frame for each element of `payload`."""
    pieces = [frame(part, BINARY if at == 0 else CONTINUATION, at == len(payload) - 1, compressed and at == 0)
              for at, part in enumerate(payload)]
    return between.join(pieces)


def deflated(message):
    compressor = zlib.compressobj(9, wbits=-15)
    return (compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def bits(*groups):
    """Numbers of (value, count) bits, the least significant bit first."""
    total = used = 0
    for value, count in groups:
        total |= value << used
        used += count
    return total.to_bytes((used + 7) // 8, "little")


def empty_blocks(count=1000):
    """DEFLATE blocks that define a code of two symbols and contain nothing: the costliest input for its size."""
    block = [(0b100, 3), (0, 10), (14, 4), (0, 6), (1, 3), (0, 42), (1, 3),
             (1, 1), (127, 7), (1, 1), (107, 7), (0, 3)]
    return bits(*block * count, (0, 3))


def bytes_one_by_one(payload):
    return [payload[at:at + 1] for at in range(len(payload))]
