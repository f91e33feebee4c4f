"""System calls of tidegate an echo, by strace: the difference of a short and a long run, so that
what opens and closes the tunnel does not count."""

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
    for name, told in CASES.items():
        short, long = twice(bench, peer, told)
        if "failed" in short or "failed" in long:
            found[name] = bench.note("syscalls", "tidegate", short if "failed" in short else long)
            continue
        units = long["units"] - short["units"]
        # What came by chance in the short run only is nothing.
        calls = {
            call: max(0, count - short["calls"].get(call, 0)) / units
            for call, count in long["calls"].items()
        }
        found[name] = summed(calls) | {"echoes": units, "calls": calls}
        print(f"syscalls  {name}: {summed(calls)}", flush=True)
    bench.yard.end(peer)
    return found


def twice(bench, peer, told):
    """A short run and a long one, that is long: a core may have been taken away in it."""
    for _ in range(TRIES):
        short = traced(bench, peer, told, SHORT_SECONDS)
        long = traced(bench, peer, told, LONG_SECONDS)
        if "failed" in short or "failed" in long or long["units"] > LONGER * short["units"]:
            return short, long
    return {"failed": "the machine is too busy to count"}, {}


def summed(calls):
    """What an echo takes: to read, to write, to wait, and anything else."""
    known = READS + WRITES + WAITS
    return {
        "reads": sum(calls.get(call, 0) for call in READS),
        "writes": sum(calls.get(call, 0) for call in WRITES),
        "waits": sum(calls.get(call, 0) for call in WAITS),
        "others": sum(count for call, count in calls.items() if call not in known),
    }


def traced(bench, peer, told, seconds):
    table = bench.yard.work / "strace.out"
    command = ["taskset", "-c", bench.yard.proxy_cores, "strace", "-f", "-c", "-U", "name,calls"]
    tracer = subprocess.Popen(
        [*command, "-o", str(table), "-p", str(peer.process.child.pid)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )
    # It says so once it holds every thread.
    said = tracer.stderr.readline()
    time.sleep(0.1)
    if "attached" not in said:
        tracer.kill()
        return {"failed": f"strace: {said.strip()}"}
    answer = bench.load(peer, told, seconds, warmup=0, limit=60)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)
    rows = re.findall(r"^(\w+)\s+(\d+)$", table.read_text(), re.MULTILINE)
    answer["calls"] = {name: int(count) for name, count in rows if name != "total"}
    return answer
