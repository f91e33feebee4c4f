"""The scenarios, in the order of the report's rows."""

import dataclasses

KIB, MIB = 1024, 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One row: `command` is the arguments of loadgen, `kind` selects the targets."""

    name: str
    title: str
    kind: str
    command: tuple
    size: int = 0
    # Peers that do not support the scenario.
    without: tuple = ()
    # "hybrid": a TLS library with X25519MLKEM768; "records": a second process that writes records.
    needs: str = ""


def words(text):
    return tuple(text.split())


def echoes():
    sizes = [(16, "16 B", 16), (125, "125 B", 16), (KIB, "1 KiB", 16), (16 * KIB, "16 KiB", 16),
             (64 * KIB, "64 KiB", 8), (MIB, "1 MiB", 4)]
    for size, title, tunnels in sizes:
        yield Scenario(
            f"echo-{size}", f"{title} ping-pong", "message",
            words(f"echo --size {size} --inflight 1 --tunnels {tunnels}"), size,
        )
        deep = 16 if size <= KIB else 4
        yield Scenario(
            f"pipe-{size}", f"{title}, {deep} in flight", "message",
            words(f"echo --size {size} --inflight {deep} --tunnels 4"), size,
        )


def plain():
    """Plain HTTP requests on kept-alive connections."""
    for method, title in (("get", "plain GET"), ("poll", "Socket.IO polling request")):
        yield Scenario(
            f"http-{method}-{KIB}", f"{title}, 1 KiB", "http",
            words(f"http --method {method} --size {KIB} --connections 64"), KIB,
        )
    for name, method in (("download", "get"), ("upload", "post")):
        yield Scenario(
            f"http-{name}", f"100 MiB {name}, per MiB", "http",
            words(f"http --method {method} --size {100 * MIB} --connections 1"), 100 * MIB,
        )


def paired():
    """The scenarios that run in every round."""
    return [
        Scenario("handshake", "full handshake + upgrade + echo + close", "handshake",
                 words("handshake --concurrency 8")),
        Scenario("handshake-records", "the same, each proxy with records to `/dev/null`", "handshake",
                 words("handshake --concurrency 8"), needs="records"),
        Scenario("resume", "resumed", "handshake", words("handshake --resume --concurrency 8"),
                 without=("relay-tcp",)),
        Scenario("hybrid", "full, with X25519MLKEM768", "handshake",
                 words("handshake --group x25519mlkem768 --concurrency 8"), needs="hybrid"),
        Scenario("reset", "full handshake + upgrade + echo + reset", "handshake",
                 words("handshake --reset --concurrency 8")),
        *echoes(),
        Scenario("bulk-down", "bulk down, per MiB", "message",
                 words(f"bulk --direction down --size {64 * KIB} --tunnels 4"), 64 * KIB),
        Scenario("bulk-up", "bulk up, per MiB", "message",
                 words(f"bulk --direction up --size {64 * KIB} --tunnels 4"), 64 * KIB),
        Scenario("open-loop", "125 B at a fixed 4,000 per second", "message",
                 words("open-loop --rate 4000 --size 125 --tunnels 64"), 125),
        Scenario("broadcast", "125 B to 200 tunnels, per delivery", "message",
                 words("broadcast --tunnels 200 --size 125 --rate 50"), 125),
        *plain(),
    ]


# (row, tunnels, whether they are held until all are open)
STORMS = [(f"storm-{form}-{tunnels}", tunnels, form == "hold")
          for form in ("hold", "pass") for tunnels in (2000, 9000)]

# Not in the paired rounds: most need a fresh process for each measurement.
ALONE = ["idle-5000", "idle-9000", "heartbeats", "churn", *(name for name, _, _ in STORMS), "living", "flood",
         "syscalls", "scale", "workers", "http2"]


def all_names():
    return [scenario.name for scenario in paired()] + ALONE
