"""The attacks. Each is bytes and the way in which loadgen sends them; payloads.py makes the bytes."""

import dataclasses
from typing import Callable

import http2_attacks
import payloads
from payloads import (CLOSE, TEXT, PING, bytes_one_by_one, deflated, deflating, encoded, fragments, frame, head, many,
                      upgrade)

KIB = 1024


@dataclasses.dataclass(frozen=True)
class Attack:
    name: str
    title: str
    # Makes the first bytes of connections (a list, taken in turn) and the bytes that each then repeats.
    first: Callable = lambda target: []
    repeat: Callable = lambda target: b""
    # More options of `loadgen attack`.
    options: str = ""
    # Connections at once from one address, and from all of ADDRESSES_MAX together.
    connections: tuple = (64, 200)
    # Without TLS; on the admin listener.
    plain: bool = False
    admin: bool = False
    # On the listener without TLS that accepts HTTP/2; of tidegate only.
    http2: bool = False
    certificate: str = "p256"
    # Most memory of a connection in KiB, if it has an aim.
    memory_kib: float = None
    # The backend serves what the attacker asks for, at a rate that `rates.requests_per_client` allows: a log has a record
    # of each, so its length has no aim.
    served: bool = False
    # Part of the short form.
    quick: bool = False

    @property
    def port_offset(self):
        """The listener: this is added to the port of the one with TLS."""
        return 1000 if self.admin else 2000 if self.http2 else 0


def constant(value):
    return lambda target: value


def upgraded(name, title, repeat, request=upgrade, **more):
    """An attack in open tunnels."""
    return Attack(name, title, constant([request()]), constant(many(repeat)), "--answer", **more)


def requests(name, title, request, **more):
    """Requests on kept-alive connections."""
    return Attack(name, title, repeat=constant(request), options="--paced", **more)


def rejected(name, title, *heads, **more):
    """Connections with one request each, after whose response the proxy closes them."""
    return Attack(name, title, constant(list(heads)), options="--answer", **more)


def contentless(name, title, records, **more):
    """TLS records without content in open tunnels."""
    return Attack(name, title, constant([upgrade()]), constant(frame(b"x")), f"--answer --records {records}",
                  connections=(1, 20), **more)


def kept(name, title, first, options="--stay", memory_kib=None, **more):
    """Connections that stop at some stage, and occupy memory."""
    return Attack(name, title, first, options=f"--pause 0.1 {options}", connections=(1500, 5000),
                  memory_kib=memory_kib, **more)


def hello(target):
    return [payloads.hello()]


def half_hello(target):
    whole = payloads.hello()
    return [whole[:len(whole) // 2]]


CHUNKS = "Transfer-Encoding: chunked"
UPLOAD = head("/hostile/hold", "POST", ("Content-Length: 1000000000",))
PLAIN = head("/quick/?size=1&message=0")
SECRETS = "/quick/?size=1&message=0&a=" + encoded("token=1&" * 40, 3)
# Most steps of the path check change it; a longer one has too many readings.
PATH = ("///u@x/" + "/a;b/%2561%u0061/..;/%c0%ae%252e/x%20./%5c%09" * 15)[:680]


def known():
    """The attacks that have had effects."""
    one_byte = bytes_one_by_one(bytes(range(256)) * 4)
    return [
        Attack("hello-p256", "ClientHello, then a reset, ECDSA P-256", hello, options="--answer",
               connections=(256, 4000), plain=True, quick=True),
        Attack("hello-rsa2048", "the same, RSA 2048", hello, options="--answer", connections=(256, 4000),
               plain=True, certificate="rsa2048"),
        Attack("hello-rsa4096", "the same, RSA 4096", hello, options="--answer", connections=(256, 4000),
               plain=True, certificate="rsa4096"),
        upgraded("deflated-13", "compressed messages of 13 bytes", frame(deflated(b"Hello"), TEXT, compressed=True),
                 deflating, connections=(1, 20), quick=True),
        upgraded("deflated-bytes", "compressed messages in fragments of 1 byte",
                 fragments(bytes_one_by_one(deflated(bytes(range(256)) * 4)), True), deflating,
                 connections=(1, 20), quick=True),
        upgraded("frames-1", "frames of 1 byte", frame(b"x"), connections=(1, 20), quick=True),
        upgraded("fragments-1", "fragments of 1 byte", fragments(one_byte), connections=(1, 20)),
        upgraded("fragments-0", "empty fragments", fragments([b""] * 1000), connections=(1, 20)),
        Attack("slow-upload", "uploads of 1 byte in 2 s", constant([UPLOAD]), constant(b"x"), "--pause 2",
               (500, 2000), quick=True),
        requests("requests", "plain requests on kept-alive connections", PLAIN, served=True, quick=True),
        rejected("requests-404", "a request for an unknown host", head("/", host="x")),
        rejected("handshakes-403", "a handshake of a foreign origin", upgrade("/", ("Origin: http://x",)), quick=True),
        Attack("no-tls", "bytes that are not TLS, then a reset", constant([b"GET / HTTP/1.0\r\n\r\n"]),
               options="--answer", connections=(64, 200), plain=True, quick=True),
        requests("secrets", "encoded secrets in queries of 8 KB", head(SECRETS)),
        rejected("paths", "ambiguous paths of 680 bytes", head(PATH)),
        kept("half-hello", "half a ClientHello", half_hello, plain=True, memory_kib=20, quick=True),
        kept("no-request", "TLS, no request", constant([]), memory_kib=8),
        kept("half-head", "half a head of 1 KiB",
             constant([PLAIN[:-2] + b"Cookie: " + b"x" * 1000]), memory_kib=24, quick=True),
        kept("keep-alive", "idle after a request", constant([PLAIN]), "--answer --stay", memory_kib=8, served=True,
             quick=True),
        kept("upload", "a body that stops", constant([UPLOAD + b"x" * 1000]), memory_kib=24),
        kept("tunnel", "tunnel at rest", constant([upgrade()]), "--answer --stay", memory_kib=8),
        Attack("admin-silent", "silent connections to the admin listener", options="--pause 0.1 --stay",
               connections=(200, 500), plain=True, admin=True, quick=True),
        contentless("key-updates", "key updates", "key-update", quick=True),
        contentless("empty-records", "empty TLS records", "empty", quick=True),
        Attack("silent", "connections that send nothing", options="--pause 0.1 --stay",
               connections=(2000, 12000), plain=True),
    ]


def further():
    """Attacks of other kinds."""
    return [*in_tls(), *in_requests(), *in_bodies(), *in_tunnels(), *from_backends(), *http2_attacks.attacks(Attack, constant)]


def in_tls():
    many_records = payloads.one_byte_records
    return [
        Attack("names", "ClientHello with unknown names", constant(payloads.names(50)), options="--answer",
               connections=(256, 4000), plain=True),
        Attack("tickets", "ClientHello with invalid tickets",
               lambda target: payloads.ticketed("127.0.0.1", target["port"], target["chain"], 50),
               options="--answer", connections=(256, 4000), plain=True),
        Attack("hello-records", "ClientHello in records of 1 byte", lambda target: [many_records(payloads.hello())],
               options="--answer", connections=(64, 200), plain=True),
        Attack("change-cipher-spec", "ChangeCipherSpec again and again", hello,
               constant(many(b"\x14\x03\x03\x00\x01\x01")), "--answer", connections=(16, 100), plain=True),
        Attack("records-1", "a head in TLS records of 1 byte", repeat=constant(b"GET / HTTP/1.1\r\nx: " + b"x" * 20000),
               options="--record 1", connections=(16, 100), quick=True),
        Attack("alerts", "TLS alerts that end nothing", hello, constant(many(b"\x15\x03\x03\x00\x02\x01\x5a")),
               "--answer", connections=(16, 100), plain=True),
        Attack("early-records", "encrypted records in a handshake", hello,
               constant(many(b"\x17\x03\x03\x00\x11" + bytes(17))), "--answer", connections=(16, 100), plain=True),
        Attack("half-closed", "requests, then a closed sending side", constant([PLAIN]), options="--half-close --stay",
               connections=(500, 2000)),
    ]


def in_requests():
    tokens = "Connection: " + ",".join(f"x{number}" for number in range(4000))
    return [
        requests("fields", "requests with 98 fields of 300 bytes",
                 head("/hostile/answer", fields=[f"x{number}: {'x' * 300}" for number in range(98)])),
        rejected("fields-431", "requests with too many fields", head(fields=[f"x{number}: " for number in range(200)])),
        rejected("connection", "Connection with 4,000 names", head("/hostile/answer", fields=[tokens])),
        rejected("subprotocols", "handshakes with 10,000 subprotocols",
                 upgrade("/", ("Origin: http://x", "Sec-WebSocket-Protocol: " + "a, " * 10000 + "a"))),
        rejected("extensions", "handshakes with 1,000 extensions",
                       upgrade(fields=("Sec-WebSocket-Extensions: " + "permessage-deflate, " * 1000 + "x",))),
        rejected("cookies", "handshakes with cookies of 30 KB", upgrade(fields=("Cookie: " + "x=y; " * 6000,))),
        rejected("tunnels", "tunnels that are reset at once", upgrade()),
        Attack("handshake-hold", "handshakes that the backend does not answer", constant([upgrade("/hostile/hold")]),
               options="--stay", connections=(500, 2000)),
        rejected("hosts", "requests for many unknown hosts",
                 *(head("/", host=f"h{number}.example") for number in range(200)), quick=True),
        Attack("rejected-flood", "a request for an unknown host, then bytes without end",
               constant([head("/", host="x")]), constant(bytes(16 * KIB))),
        Attack("pipelined", "requests that do not wait for responses", repeat=constant(many(PLAIN)),
               connections=(8, 40), served=True),
        rejected("percent", "queries of 14 KB of escapes", head("/quick/?size=1&message=0&" + "%25" * 4600)),
        rejected("versions", "handshakes of another version", upgrade().replace(b"Version: 13", b"Version: 8")),
        rejected("http2-preface", "HTTP/2 on a listener without it", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        Attack("drip", "a head of 1 byte in 0.5 s", repeat=constant(b"x"), options="--pause 0.5",
               connections=(1500, 5000)),
        Attack("unread", "requests for 1 MB, responses not read",
               constant([head("/quick/?size=1000000&message=0") * 50]), options="--stay --unread",
               connections=(500, 2000)),
    ]


def in_bodies():
    upload = head("/hostile/hold", "POST", (CHUNKS,))
    return [
        Attack("chunks-1", "chunks of 1 byte", constant([upload]), constant(many(b"1\r\nx\r\n")),
               connections=(8, 40)),
        Attack("chunk-extensions", "chunks with extensions", constant([upload]),
               constant(many(b"1;" + b"x" * 100 + b"\r\nx\r\n")), connections=(8, 40)),
        requests("trailers", "trailers of 8 KB", head("/hostile/answer", "POST", (CHUNKS,)) + b"0\r\n"
                 + b"".join(b"x%d: %s\r\n" % (number, b"x" * 80) for number in range(90)) + b"\r\n"),
        requests("smuggled", "trailers that name Content-Length", head("/hostile/answer", "POST", (CHUNKS,))
                 + b"0\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Attack("upload-reset", "uploads that are reset at once", constant([UPLOAD])),
        Attack("expect", "Expect: 100-continue, then nothing",
               constant([head("/hostile/hold", "POST", ("Content-Length: 10", "Expect: 100-continue"))]),
               options="--stay", connections=(500, 2000), quick=True),
    ]


def in_tunnels():
    ping = frame(b"", PING)
    return [
        upgraded("pings", "pings", ping, connections=(1, 20), quick=True),
        upgraded("fragments-pings", "fragments of 1 byte with pings between them",
                 fragments(bytes_one_by_one(bytes(500)), between=ping), connections=(1, 20)),
        upgraded("deflate-blocks", "compressed blocks without content",
                 frame(payloads.empty_blocks(), compressed=True), deflating, connections=(1, 20)),
        upgraded("deflate-zeros", "compressed messages of 15 MB of zeros",
                 frame(deflated(bytes(15_000_000)), compressed=True), deflating, connections=(1, 20)),
        upgraded("frames-bad", "a frame with a reserved bit", b"\xf2\x80" + payloads.KEY),
        upgraded("close-flood", "a Close, then frames without end", frame(b"", CLOSE) + frame(b"x"),
                 connections=(64, 200)),
        upgraded("long-text", "text of characters of 4 bytes", frame("\U0001f600".encode() * 4000, TEXT),
                 connections=(1, 20)),
        upgraded("kilobytes", "messages of 1 KB from many tunnels", frame(bytes(1000)), connections=(500, 2000)),
        Attack("pulses", "1,000 tunnels that each send 4 KB every 50 ms", constant([upgrade()]),
               constant(frame(bytes(4000))), "--answer --pause 0.05", connections=(1000, 2000)),
        Attack("close-drip", "a Close of 125 bytes, 1 byte in 0.5 s", constant([upgrade()]), constant(b"x"),
               "--answer --pause 0.5", connections=(500, 2000)),
    ]


def from_backends():
    """What a backend sends to clients that ask for it."""
    floods = [("flood", "a response without end"), ("tiny-chunks", "chunks of 1 byte"),
              ("interim", "103 responses without end"), ("continue", "100 responses without end"),
              ("fields", "a head without end")]
    frames = [("frames", "frames of 1 byte"), ("empty-fragments", "empty fragments"), ("pings", "pings"),
              ("close", "a Close, then frames")]
    # The attacker is the backend, so its bytes are not those of the client.
    options = {"options": "--stay", "connections": (4, 40), "served": True}
    return [
        *(Attack(f"backend-{way}", f"from the backend: {title}", constant([head(f"/hostile/{way}")]),
                 quick=way in ("tiny-chunks", "interim"), **options) for way, title in floods),
        *(Attack(f"backend-{way}", f"from the backend: {title}", constant([upgrade(f"/hostile/{way}")]),
                 quick=way == "frames", **options) for way, title in frames),
        Attack("backend-unread", "a response without end that is not read", constant([head("/hostile/flood")]),
               options="--stay --unread", connections=(500, 1000)),
    ]
