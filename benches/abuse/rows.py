"""Measures one row: a fresh proxy, its neighbour, new clients, and the attack."""

import json
import pathlib
import subprocess
import sys
import time

import machine
import peers
import probes
from processes import Failed
from watchdog import Watchdog

HERE = pathlib.Path(__file__).parent
QUICK_PORT, HOSTILE_PORT = 6002, 6003
PORT = 7001
CERTIFICATES = {"p256": machine.ECDSA, "rsa2048": ("rsa:2048",), "rsa4096": ("rsa:4096",)}
# Each of the tunnels echoes 20 times a second.
NEIGHBOURS, ECHOES_PER_SECOND = 10, 20
ADDRESSES_MAX = 20
WARMUP_SECONDS = 1
# What TCP itself needs for a connection in the attacker's direction, in three packets.
CONNECTION_BYTES = 3 * 40
# Fewer connections than this say nothing about the memory of one.
CONNECTIONS_MIN = 200
# The load is on the same core as the neighbours, and must not delay them.
BACKGROUND = ["nice", "-n", "19"]
# New clients must not wait for the load.
FOREGROUND = ["nice", "-n", "5"]


class Site(peers.Yard):
    """The proxies, as peers starts them, with routes to backends for the attackers."""

    def prepare(self):
        for name, key_type in CERTIFICATES.items():
            folder = self.work / name
            folder.mkdir()
            folder.chmod(0o755)
            machine.certificate(folder, ["localhost"], "", key_type)
        self.backend()
        quick = [*BACKGROUND, peers.program("loadgen"), "backend", "--listen", f"127.0.0.1:{QUICK_PORT}"]
        self.start("quick", quick, self.load_cores, QUICK_PORT)
        hostile = [*BACKGROUND, sys.executable, HERE / "hostile_backend.py", HOSTILE_PORT]
        self.start("hostile", hostile, self.load_cores, HOSTILE_PORT)

    def tidegate(self, name, port, **changes):
        words = {"PORT": port, "ADMIN": port + 1000, "HTTP2": port + 2000, "BACKEND_PORT": peers.BACKEND_PORT,
                 "QUICK_PORT": QUICK_PORT, "HOSTILE_PORT": HOSTILE_PORT} | changes
        return [peers.tidegate_program(), "run", "--config", self.filled(HERE / "tidegate.toml", name, words)]

    def nginx(self, name, port, **changes):
        routes = "\n".join(f"location /{path}/ {{ proxy_pass http://127.0.0.1:{target}; }}"
                           for path, target in (("quick", QUICK_PORT), ("hostile", HOSTILE_PORT)))
        return super().nginx(name, port, RECORDS=self.work / f"{name}.log", MORE_ROUTES=routes, **changes)

    def haproxy(self, name, port, **changes):
        both = (("quick", QUICK_PORT), ("hostile", HOSTILE_PORT))
        words = {
            "TARGET": "log stdout format raw local0", "RECORDS": "log global\n    option httplog",
            "MORE_ROUTES": "\n    ".join(f"use_backend {path} if {{ path_beg /{path}/ }}" for path, _ in both),
            "MORE_BACKENDS": "\n".join(f"backend {path}\n    http-reuse always\n    server {path} 127.0.0.1:{port}"
                                       for path, port in both),
        }
        return super().haproxy(name, port, **words, **changes)

    def proxy(self, name, certificate):
        """A fresh process, and its watchdog."""
        watchdog = Watchdog(self.work)
        command = getattr(self, name)(name, PORT, DIR=self.work / certificate)
        env = watchdog.environment() if name == "tidegate" else None
        return self.start(name, command, self.proxy_cores, PORT, env), watchdog

    def log_bytes(self, name):
        files = [self.work / f"{name}.{end}" for end in ("out", "err", "log")]
        return sum(file.stat().st_size for file in files if file.exists())


def row(site, name, attack, addresses, seconds):
    """The measurements of an attack; `None` as attack is the neighbour alone."""
    process, watchdog = site.proxy(name, attack.certificate if attack else "p256")
    try:
        return measured(site, name, process, watchdog, attack, addresses, seconds)
    finally:
        site.end(peers.Peer(name, PORT, process))
        for log in (process.out, process.err, site.work / f"{name}.log"):
            log.unlink(missing_ok=True)


def measured(site, name, process, watchdog, attack, addresses, seconds):
    folder = site.work / (attack.certificate if attack else "p256")
    target = peers.Peer(name, PORT, process).connect(folder)
    sent = attack_command(site, attack, addresses, WARMUP_SECONDS + seconds + 0.3, folder) if attack else None
    neighbour = load(site, [], "open-loop", "--tunnels", NEIGHBOURS, "--rate", NEIGHBOURS * ECHOES_PER_SECOND,
                     "--warmup", WARMUP_SECONDS, "--seconds", seconds, *target)
    process.until("neighbours", lambda: probes.established([PORT])[PORT] >= NEIGHBOURS)
    newcomers = probe(site, attack, folder, seconds + WARMUP_SECONDS / 2)
    pids = process.pids()
    before = cpu_seconds(pids), site.log_bytes(name), memory_bytes(pids, "VmRSS"), time.monotonic()
    reset_peak(pids)
    attacker = load(site, BACKGROUND, *sent) if attack else None
    found = {"neighbour": result(neighbour, seconds), "probes": result(newcomers, seconds)}
    found["attack"] = result(attacker, seconds) if attacker else {}
    wall = time.monotonic() - before[3]
    found["watchdog_gap_s"] = watchdog.longest_gap(before[3], time.monotonic()) if name == "tidegate" else None
    if not process.running():
        raise Failed(f"{name} ended: {process.last_words()}")
    used, waited = used_and_waited(before[0], cpu_seconds(pids))
    found |= {"cpu_s": used, "waited_s": waited, "wall_s": wall,
              "memory_b": memory_bytes(pids, "VmHWM") - before[2]}
    # The last records are written after the connections have ended.
    time.sleep(0.2)
    return found | {"log_b": site.log_bytes(name) - before[1]}


def attack_command(site, attack, addresses, seconds, folder):
    """The arguments of loadgen; writes the files with the bytes."""
    def file(name, content):
        path = site.work / f"bytes-{name}"
        path.write_bytes(content)
        return path

    port = PORT + attack.port_offset
    where = {"port": PORT, "chain": folder / "chain.pem"}
    command = ["attack", "--connect", f"127.0.0.1:{port}", "--sources", addresses, "--seconds", seconds]
    command += ["--connections", attack.connections[0 if addresses == 1 else 1], *attack.options.split()]
    command += ["--plain"] if attack.plain or attack.http2 else ["--ca", folder / "chain.pem", "--name", "localhost"]
    for number, first in enumerate(attack.first(where)):
        command += ["--first", file(f"first-{number}", first)]
    repeat = attack.repeat(where)
    return [*command, "--repeat", file("repeat", repeat)] if repeat else command


def probe(site, attack, folder, seconds):
    """New clients; of the admin listener if that is attacked."""
    admin = attack and attack.admin
    wanted = {
        "port": PORT + 1000 if admin else PORT, "chain": None if admin else str(folder / "chain.pem"),
        "request": f"GET {'/readyz' if admin else '/?size=1&message=0'} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "seconds": seconds, "count": [PORT, PORT + 1000, PORT + 2000, QUICK_PORT, HOSTILE_PORT],
    }
    return spawn(site, FOREGROUND, sys.executable, HERE / "probes.py", json.dumps(wanted))


def load(site, priority, *command):
    return spawn(site, priority, peers.program("loadgen"), *command)


def spawn(site, priority, *command):
    command = ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", site.load_cores, *priority, *map(str, command)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(child, seconds):
    try:
        out, err = child.communicate(timeout=seconds + 40)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return {"failed": "no result in time"}
    try:
        return json.loads(out)
    except ValueError:
        return {"failed": err.strip()[-200:] or f"exit code {child.returncode}"}


def cpu_seconds(pids):
    """For each thread, the time on a core, and the time of waiting for one."""
    files = [file for pid in pids for file in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return {file: [int(time) / 1e9 for time in file.read_text().split()[:2]] for file in files}


def used_and_waited(before, after):
    """The time on a core of all threads, and the time for which the busiest one waited for a core."""
    threads = [[end - start for start, end in zip(before.get(thread, [0, 0]), times)]
               for thread, times in after.items()]
    return sum(used for used, _ in threads), max(threads)[1]


def memory_bytes(pids, field):
    found = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            found += int(line.split()[1]) * 1024 if line.startswith(f"{field}:") else 0
    return found


def reset_peak(pids):
    for pid in pids:
        pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")
