"""Opening many connections at once: storms, established tunnels during a storm, and a flood of handshakes."""

import alone
import measure
import peers

ROUNDS = 3
LIMIT_SECONDS = 180
LIVING = ["living", "--tunnels", 200, "--rate", 2000, "--storm", 9000]
HANDSHAKE = ["handshake", "--concurrency", 8]
FLOOD, FLOOD_FACTOR = ["flood", "--rate", 200], 10
# Measurement times are this many times those of the other rows.
LONGER = 3


def storm(bench, running, name, tunnels, hold):
    """Time, CPU time and memory while `tunnels` clients connect at once."""
    command = ["storm", "--tunnels", tunnels, *(["--hold"] if hold else [])]
    return rounds(bench, running, name, lambda peer: bench.load(peer, command, limit=LIMIT_SECONDS),
                  ("last_us", "p50_us", "p99_us", "peak_rss_b", "failures"))


def living(bench, running):
    """Latency of 200 tunnels at a fixed rate, alone and while 9,000 clients connect at once."""
    return rounds(bench, running, "living",
                  lambda peer: bench.load(peer, LIVING, LONGER * bench.settings.seconds, limit=LIMIT_SECONDS),
                  ("alone_p99_us", "p99_us"))


def flood(bench, running):
    """Share of complete connections that succeed during a flood of ten times the proxy's capacity. Not for the
    relays: they connect to the backend for each handshake, and run out of ports."""
    def one(peer):
        capacity = bench.load(peer, HANDSHAKE, bench.settings.seconds)
        if "failed" in capacity:
            return capacity
        command = [*FLOOD, "--flood", FLOOD_FACTOR * round(capacity["units_per_s"])]
        seconds = LONGER * bench.settings.seconds
        answer = bench.load(peer, command, seconds, limit=LIMIT_SECONDS)
        return answer | {"capacity_per_s": capacity["units_per_s"]}

    proxies = [peer for peer in running if peer.name not in peers.RELAYS]
    return rounds(bench, proxies, "flood", one, ("alone_goodput", "goodput", "p99_us"))


def rounds(bench, running, name, one, fields):
    """Interleaved rounds with a fresh process for each measurement; larger buffers make no difference here."""
    chosen = [peer for peer in running if not peer.plain and "64k" not in peer.name]
    seen = []
    for number in range(min(ROUNDS, bench.settings.rounds)):
        seen.append({})
        turn = number % max(1, len(chosen))
        for peer in chosen[turn:] + chosen[:turn]:
            alone.again(bench, peer)
            answer = bench.note(name, peer.name, one(peer))
            seen[-1][peer.name] = answer
            figures = "failed" if "failed" in answer else "  ".join(
                f"{field} {answer.get(field)}" for field in fields)
            print(f"{name}  {peer.name}: {figures}", flush=True)
            alone.again(bench, peer)
    return seen


def values(found, row, peer, of):
    """The value that `of` computes from each complete answer of a row."""
    answers = [seen.get(peer, {}) for seen in found.get(row, [])]
    return [of(answer) for answer in answers if answer and "failed" not in answer]


def median(found, row, peer, of):
    middle = measure.spread(values(found, row, peer, of))
    return middle[0] if middle else None
