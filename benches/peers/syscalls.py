"""System calls per echo in tidegate, by strace: the difference between a short and a long run, so that
opening and closing the tunnel does not count."""

import re
import signal
import subprocess
import time

PORT = 7071
READS = ("read", "readv", "recvfrom", "recvmsg")
WRITES = ("write", "writev", "sendto", "sendmsg")
WAITS = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
SHORT_SECONDS, LONG_SECONDS = 0.4, 1.4
TRIES, LONGER = 3, 1.5
CASES = {
    "125 B": ["echo", "--size", 125, "--inflight", 1, "--tunnels", 1],
    "16 KiB": ["echo", "--size", 16384, "--inflight", 1, "--tunnels", 1],
    "125 B, 16 in flight": ["echo", "--size", 125, "--inflight", 16, "--tunnels", 1],
}


def syscalls(bench):
    peer = bench.yard.variant("tidegate-traced", PORT)
    found = {}
    for name, command in CASES.items():
        short, long = twice(bench, peer, command)
        if "failed" in short or "failed" in long:
            found[name] = bench.note("syscalls", "tidegate", short if "failed" in short else long)
            continue
        units = long["units"] - short["units"]
        # Calls that occurred only in the short run count as zero.
        calls = {
            call: max(0, count - short["calls"].get(call, 0)) / units
            for call, count in long["calls"].items()
        }
        found[name] = summed(calls) | {"echoes": units, "calls": calls}
        print(f"syscalls  {name}: {summed(calls)}", flush=True)
    bench.yard.end(peer)
    return found


def twice(bench, peer, command):
    """A short and a long run; repeats the long one if it was too short, as a core may have been taken away."""
    for _ in range(TRIES):
        short = traced(bench, peer, command, SHORT_SECONDS)
        long = traced(bench, peer, command, LONG_SECONDS)
        if "failed" in short or "failed" in long or long["units"] > LONGER * short["units"]:
            return short, long
    return {"failed": "the machine is too busy for a measurement"}, {}


def summed(calls):
    """Calls per echo: reads, writes, waits and others."""
    known = READS + WRITES + WAITS
    return {
        "reads": sum(calls.get(call, 0) for call in READS),
        "writes": sum(calls.get(call, 0) for call in WRITES),
        "waits": sum(calls.get(call, 0) for call in WAITS),
        "others": sum(count for call, count in calls.items() if call not in known),
    }


def traced(bench, peer, command, seconds):
    table = bench.yard.work / "strace.out"
    strace = ["taskset", "-c", bench.yard.proxy_cores, "strace", "-f", "-c", "-U", "name,calls"]
    tracer = subprocess.Popen(
        [*strace, "-o", str(table), "-p", str(peer.process.child.pid)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    # strace reports when it is attached to every thread.
    said = tracer.stderr.readline()
    time.sleep(0.1)
    if "attached" not in said:
        tracer.kill()
        return {"failed": f"strace: {said.strip()}"}
    answer = bench.load(peer, command, seconds, warmup=0, limit=60)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    rows = re.findall(r"^(\w+)\s+(\d+)$", table.read_text(), re.MULTILINE)
    answer["calls"] = {name: int(count) for name, count in rows if name != "total"}
    return answer
