"""Scaling: open tunnels, a large configuration, a second worker."""

import machine
import measure
import peers

LARGE_PORT, ONE_PORT, TWO_PORT, RELAY_PORT = 7081, 7082, 7083, 7084
ACTIVE = 64
MESSAGE = ["echo", "--size", 125, "--inflight", 1, "--tunnels", 16]
HANDSHAKE = ["handshake", "--concurrency", 8]


def tunnels(bench, counts):
    """The cost of a message with an increasing number of other open tunnels."""
    peer = bench.yard.variant("tidegate-scale", ONE_PORT)
    seen = []
    for _ in range(bench.settings.rounds_alone):
        seen.append({})
        for count in counts:
            command = ["cost-at", "--tunnels", count, "--active", ACTIVE]
            answer = bench.note("scale", peer.name, bench.load(peer, command, bench.settings.seconds))
            seen[-1][str(count)] = {"tidegate": answer}
        measure.say("scale", "tunnels", {name: row["tidegate"] for name, row in seen[-1].items()})
    bench.yard.end(peer)
    return seen


def large(bench):
    """Compares 100 backends, 1,000 routes and 100 certificates with one of each."""
    yard = bench.yard
    small_peer = yard.variant("tidegate-small", ONE_PORT)
    large_peer = yard.variant("tidegate-large", LARGE_PORT, **large_configuration(yard.work))
    seen = alternating(bench, "large", [small_peer, large_peer])
    yard.end(small_peer)
    yard.end(large_peer)
    return seen


def large_configuration(work):
    backends = ", ".join(f'"127.0.1.{at + 1}:{peers.BACKEND_PORT}"' for at in range(100))
    certificates, routes = [], []
    for at in range(99):
        name = f"host-{at}.example.com"
        chain, key = machine.certificate(work, [name], f"{at}-")
        certificates.append(f'[[certificate]]\nchain = "{chain}"\nkey = "{key}"\n')
    for at in range(999):
        routes.append(
            f'[[route]]\nhost = "host-{at % 99}.example.com"\npath = "/{at // 99}"\n'
            'origins = ["missing"]\n' f'backends = ["127.0.1.{at % 100 + 1}:{peers.BACKEND_PORT}"]\n'
        )
    return {
        "BACKENDS": backends,
        "MORE_CERTIFICATES": "".join(certificates), "MORE_ROUTES": "".join(routes),
    }


def workers(bench):
    """Two workers on both cores, shared with the load: the ratio to a relay with two threads, and
    fairness between tunnels."""
    yard = bench.yard
    cores = f"{yard.proxy_cores},{yard.load_cores}"
    gate = yard.variant("tidegate-2", TWO_PORT, cores, WORKERS=2)
    command = yard.relay("relay-tls", RELAY_PORT, workers=2)
    relay = peers.Peer("relay-tls", RELAY_PORT, yard.start("relay-2", command, cores, RELAY_PORT))
    seen = alternating(bench, "workers", [gate, relay])
    yard.end(gate)
    yard.end(relay)
    return seen


def alternating(bench, name, running):
    seen = []
    for number in range(bench.settings.rounds_alone):
        seen.append({"message": {}, "handshake": {}})
        for row, command in (("message", MESSAGE), ("handshake", HANDSHAKE)):
            for peer in running if number % 2 == 0 else running[::-1]:
                answer = bench.load(peer, command, bench.settings.seconds)
                seen[-1][row][peer.name] = bench.note(name, peer.name, answer)
            measure.say(name, row, seen[-1][row])
    return seen
