"""HTTP/2 to clients: messages on the tunnels of one connection, plain requests, and memory of idle tunnels; compared with HAProxy,
the only peer that has WebSockets over HTTP/2 (RFC 8441), and with HTTP/1.1 through the same process."""

import os
import re
import subprocess

import alone
import peers

BRIDGE_PORT = 7071
TUNNELS = 32
SIZES = (125, 16 * 1024)
IDLE_TUNNELS, IDLE_STREAMS = 2000, (1, 100)
REQUESTS = 40_000
WITH_HTTP2 = ("tidegate", "haproxy")


def http2(bench, running):
    found = {}
    for peer in [peer for peer in running if peer.name in WITH_HTTP2]:
        rows = found[peer.name] = {}
        for streams in IDLE_STREAMS:
            alone.again(bench, peer)
            rows[f"idle_{streams}"] = bridged(bench, peer, streams, ["idle", "--tunnels", IDLE_TUNNELS, "--hold", 3, "--concurrency", 8])
        for size in SIZES:
            command = ["echo", "--size", size, "--inflight", 1, "--tunnels", TUNNELS]
            rows[f"echo_{size}_http1"] = bench.load(peer, command, bench.settings.seconds)
            rows[f"echo_{size}"] = bridged(bench, peer, TUNNELS, command, bench.settings.seconds)
        for version in ("http/1.1", "h2"):
            rows[f"requests_{version}"] = requests(bench, peer, version)
        for row, answer in rows.items():
            bench.note(f"http2 {row}", peer.name, answer)
            print(f"http2  {peer.name}  {row}: {shown(answer)}", flush=True)
    return found


def bridged(bench, peer, streams, command, *rest):
    """A scenario whose tunnels are streams of connections to this peer, with this number on each."""
    bridge = [peers.program("loadgen"), "bridge", "--listen", f"127.0.0.1:{BRIDGE_PORT}", "--streams", streams,
              *peer.connect(bench.yard.work)[:-2]]
    process = bench.yard.start("bridge", bridge, bench.yard.load_cores, BRIDGE_PORT)
    front = peers.Peer(peer.name, BRIDGE_PORT, peer.process)
    front.plain = True
    try:
        return bench.load(front, command, *rest, limit=240)
    finally:
        process.stop()
        bench.yard.started.remove(process)


def requests(bench, peer, version):
    """CPU time of plain requests with h2load, each with a response of 1 KiB."""
    words = ["h2load", "-n", REQUESTS, "-c", 8, "-t", 1, "-m", 16 if version == "h2" else 1,
             f"--npn-list={version}", f"https://localhost:{peer.port}/?size=1024&message=0"]
    before = cpu_seconds(peer)
    try:
        done = subprocess.run(["taskset", "-c", bench.yard.load_cores, *map(str, words)], capture_output=True, text=True,
                              timeout=120)
    except (OSError, subprocess.TimeoutExpired) as why:
        return {"failed": str(why)}
    spent = cpu_seconds(peer) - before
    succeeded = re.search(r"(\d+) succeeded", done.stdout)
    if not succeeded or int(succeeded[1]) != REQUESTS:
        return {"failed": (done.stdout + done.stderr)[-200:]}
    return {"cpu_us_per_unit": spent / REQUESTS * 1e6}


def cpu_seconds(peer):
    """User and system time of all its processes."""
    ticks = 0
    for pid in peer.process.pids():
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def shown(answer):
    if "failed" in answer:
        return f"failed: {answer['failed']}"
    if "idle_b" in answer:
        return f"{answer['idle_b']} B a tunnel, {answer.get('after_125_b')} after a message"
    return f"{answer['cpu_us_per_unit']:.4g} us"


def table(found):
    """Markdown; empty if it was not measured."""
    found = found.get("http2", {})
    if not found:
        return ""
    names = list(found)
    lines = ["## HTTP/2", "", "| | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    titles = {f"idle_{streams}": f"memory of an idle tunnel, {streams} a connection" for streams in IDLE_STREAMS}
    for size in SIZES:
        titles[f"echo_{size}"] = f"{size} B ping-pong on {TUNNELS} tunnels of one connection"
        titles[f"echo_{size}_http1"] = f"the same, HTTP/1.1 and {TUNNELS} connections"
    titles |= {"requests_h2": "plain GET, 1 KiB, 16 streams", "requests_http/1.1": "the same, HTTP/1.1"}
    for row, title in titles.items():
        cells = [shown(found[name].get(row, {"failed": "not run"})) for name in names]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
