"""One run of the comparison; started by benches/peers/run, in a network namespace."""

import argparse
import functools
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import alone
import http2
import machine
import opening
import peers
import quick
import report
import scale
import scenarios
import syscalls
from measure import Bench
from processes import Failed


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/peers/run",
        description="Compares tidegate with other proxies, and writes docs/peers.md and benches/peers/results.json.",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of each measurement")
    parser.add_argument("--only", default="", help="scenarios: " + ",".join(scenarios.all_names()))
    parser.add_argument("--peers", default="", help=",".join(peers.USUAL))
    parser.add_argument("--quick", action="store_true", help="only the checks for CI")
    parser.add_argument("--out", help="directory for both files; by default, only a complete run writes them")
    settings = parser.parse_args()
    settings.only = [name for name in settings.only.split(",") if name] or scenarios.all_names()
    settings.peers = [name for name in settings.peers.split(",") if name]
    for given, known in ((settings.only, scenarios.all_names()),
                         (settings.peers, peers.USUAL)):
        unknown = set(given) - set(known)
        if unknown:
            parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return complete(settings)


def complete(settings):
    """Fills in settings that depend on other settings."""
    whole = not settings.quick and not settings.peers
    whole = whole and settings.only == scenarios.all_names()
    if settings.out:
        folder = pathlib.Path(os.environ.get("PEERS_START", "."), settings.out).resolve()
        settings.out = {"report": folder, "results": folder}
    elif whole:
        settings.out = {"report": peers.ROOT / "docs", "results": peers.HERE}
    if settings.quick:
        settings.rounds, settings.seconds = 1, 0.3
        settings.peers = settings.peers or ["tidegate", *peers.RELAYS]
    settings.warmup = 0.1 if settings.quick else 0.2
    # Rounds of the rows that compare tidegate with itself.
    settings.rounds_alone = max(1, settings.rounds)
    return settings


def start_peers(yard, wanted, recording):
    """The peers that are available, each also with records if `recording`, and why the others are not."""
    running, skipped = [], {}
    for name in wanted:
        try:
            peer = yard.peer(name)
            peer.recording = yard.recording(name) if recording else None
            running.append(peer)
        except Failed as why:
            if name.startswith("tidegate") or name in peers.RELAYS:
                raise
            skipped[name] = str(why)
            print(f"skipped {name}: {why}", flush=True)
    return running, skipped


def measured(bench, running):
    """The results of all selected scenarios, by name."""
    settings, found = bench.settings, {}
    chosen = [row for row in scenarios.paired() if row.name in settings.only]
    found["rounds"] = bench.rounds(chosen, running)
    steps = {
        "idle-5000": lambda: alone.idle(bench, running, 5000),
        "idle-9000": lambda: alone.idle(bench, running, 9000),
        "heartbeats": lambda: alone.heartbeats(bench, 9000),
        "churn": lambda: alone.churn(bench, running, 10, 500),
        **{row[0]: functools.partial(opening.storm, bench, running, *row) for row in scenarios.STORMS},
        "living": lambda: opening.living(bench, running),
        "flood": lambda: opening.flood(bench, running),
        "syscalls": lambda: syscalls.syscalls(bench),
        "scale": lambda: {"tunnels": scale.tunnels(bench, [64, 1000, 9000]),
                          "large": scale.large(bench)},
        "workers": lambda: scale.workers(bench),
        "http2": lambda: http2.http2(bench, running),
    }
    for name, step in (quick.steps(bench, running) if settings.quick else steps).items():
        if quick.SMALL.get(name, name) in settings.only:
            found[name] = step()
    return found


def run(settings, work):
    yard = peers.Yard(work)
    bench = Bench(yard, settings)
    try:
        yard.backend()
        bench.corruption_is_caught()
        running, skipped = start_peers(yard, settings.peers or peers.USUAL,
                                       "handshake-records" in settings.only)
        found = {
            "facts": machine.facts([peer.name for peer in running]) | {"skipped": skipped},
            "settings": {"rounds": settings.rounds, "seconds": settings.seconds},
        }
        found |= measured(bench, running)
        found |= {"failures": bench.failures, "repeated": bench.repeated}
    finally:
        yard.stop_all()
    if settings.quick:
        bench.failures += quick.broken(found)
    if settings.out:
        report.write(settings.out, found)
    elif not settings.quick:
        print(report.markdown(found))
    return bench.failures


def main():
    settings = arguments()
    # SIGTERM must also stop child processes and remove the work directory.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if len(os.sched_getaffinity(0)) < 2:
        raise Failed("two cores are needed: one for the proxy, one for load and backend")
    machine.prepare_network()
    work = pathlib.Path(tempfile.mkdtemp(prefix="peers-"))
    # Workers that dropped root privileges must be able to read the certificates here.
    work.chmod(0o755)
    try:
        machine.certificate(work, ["localhost"], "")
        failures = run(settings, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for why in failures:
        print(f"FAIL {why}", file=sys.stderr)
    print("peers: FAILED" if failures else "peers: all checks passed", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Failed, KeyboardInterrupt) as why:
        print(f"benches/peers/run: {str(why) or 'stopped'}", file=sys.stderr)
        sys.exit(130 if isinstance(why, KeyboardInterrupt) else 1)
