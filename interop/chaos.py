"""Backends that die, hang, reset, and do not accept, under 1,000 tunnels: chaos.py TIDEGATE FOLDER [CLIENTS].

Three backends behind one tidegate, which probes them and moves tunnels back after a recovery. Each fault strikes one of
them, in a process of its own. The clients of the others must notice nothing; those of the sick one are closed with 1012 and
meet another backend; and when it is well again, they come home, not faster than the rate of the pool. The last fault is a
certificate that expires: there the backends have TLS.

Prints one line per check, `ok NAME` or `FAIL NAME: why`, with what was measured.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, WebSocketException

HERE = os.path.dirname(os.path.abspath(__file__))
BIN, FOLDER = sys.argv[1], sys.argv[2]
CLIENTS = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
RATE = 50
WINDOW = 5
# Seconds after the start: until then all tunnels are open.
EXPIRES = 60
NAMES = ["a", "b", "c"]
CONFIG = """
[[listener]]
name = "plain"
address = "127.0.0.1:0"
tls = false

[[route]]
host = "*"
origins = ["missing"]
pool = "chat"

[[pool]]
name = "chat"
backends = [%s]
hash = "query:user"
slow_start = "10s"
rebalance = "on_scale_out"
rebalance_rate = "%d/s"
on_backend_loss = "drain"
%s
[pool.probe]
kind = "websocket"
interval = "1s"
timeout = "1s"
fall = 2

[drain]
window = "%ds"
deadline = "30s"

[timeouts]
connect = "3s"
response_header = "3s"

[rates]
handshakes_per_client = "10000/s"
handshakes_burst = 10000
connections_per_client = "10000/s"
connections_burst = 10000

[concurrency]
tunnels_per_client = 10000
connections_per_client = 10000

[admin]
enabled = false

[control]
socket = "off"

[log]
format = "json"
"""
failed = False


def report(name, problem, measured=""):
    global failed
    failed |= bool(problem)
    print(f"FAIL {name}: {problem} {measured}" if problem else f"ok {name} {measured}", flush=True)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


CA = """
[ca]
default_ca = own
[own]
dir = %s
database = $dir/index.txt
new_certs_dir = $dir
certificate = $dir/ca.pem
private_key = $dir/ca.key
rand_serial = yes
unique_subject = no
default_md = sha256
default_days = 2
policy = policy
x509_extensions = extensions
[policy]
commonName = supplied
[extensions]
subjectAltName = IP:127.0.0.1
"""


class Authority:
    """Issues certificates for 127.0.0.1."""

    def __init__(self):
        self.folder = os.path.abspath(f"{FOLDER}/ca")
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        open(f"{self.folder}/index.txt", "w").close()
        with open(f"{self.folder}/ca.cnf", "w") as file:
            file.write(CA % self.folder)
        self.request("ca", "ca.pem", "-x509", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE")

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)

    def request(self, name, out, *more):
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        self.openssl("req", "-new", *curve, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", out, *more)

    def issue(self, name, seconds):
        """A certificate that is valid for this time. Returns its end."""
        end = int(time.time()) + seconds
        date = time.strftime("%y%m%d%H%M%SZ", time.gmtime(end))
        self.request(name, f"{name}.csr")
        self.openssl(
            "ca", "-batch", "-notext", "-config", "ca.cnf", "-enddate", date, "-in", f"{name}.csr", "-out", f"{name}.pem"
        )
        return end


class Member:
    """A backend process, with TLS if an authority has issued a certificate for it."""

    def __init__(self, name, authority):
        self.name, self.port, self.authority = name, free_port(), authority
        self.expires = authority and authority.issue(name, EXPIRES if name == "b" else 86400)
        self.start()

    def start(self):
        command = [sys.executable, f"{HERE}/chaos_backend.py", self.name, str(self.port)]
        if self.authority:
            command.append(f"{self.authority.folder}/{self.name}")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self):
        self.signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


class Client:
    """Stays connected, and notes what it meets."""

    def __init__(self, number, url):
        self.number, self.url = number, f"{url}/ws?user={number}"
        self.home = self.backend = None
        self.opened, self.closes, self.missed = [], [], 0
        self.is_over = False

    async def run(self):
        # The end of a connection may hide that the task is cancelled.
        while not self.is_over:
            try:
                async with connect(
                    self.url, compression=None, ping_interval=None, open_timeout=20, proxy=None
                ) as link:
                    self.backend = await link.recv()
                    self.opened.append((time.monotonic(), self.backend))
                    await self.talk(link)
            except ConnectionClosed:
                pass
            except (OSError, WebSocketException, TimeoutError):
                # Rejected: another attempt follows.
                pass
            if self.backend is not None:
                self.closes.append((time.monotonic(), link.close_code, self.backend))
                self.backend = None
            await asyncio.sleep(random.uniform(0.1, 1))

    async def talk(self, link):
        while True:
            await asyncio.sleep(random.uniform(1, 3))
            await link.send(str(self.number))
            try:
                await asyncio.wait_for(link.recv(), 10)
            except TimeoutError:
                self.missed += 1
                raise


class Scene:
    """A proxy with three backends and all clients."""

    def __init__(self, has_tls):
        self.has_tls = has_tls

    async def __aenter__(self):
        authority = Authority() if self.has_tls else None
        self.members = {name: Member(name, authority) for name in NAMES}
        listed = ", ".join(
            f'{{ address = "127.0.0.1:{of.port}", id = "{of.name}" }}'
            for of in self.members.values()
        )
        os.makedirs(FOLDER, exist_ok=True)
        with open(f"{FOLDER}/proxy.toml", "w") as file:
            tls = f'[pool.tls]\nca = "{authority.folder}/ca.pem"\n' if authority else ""
            file.write(CONFIG % (listed, RATE, tls, WINDOW))
        self.log = open(f"{FOLDER}/proxy.log", "a+")
        start = self.log.tell()
        self.proxy = subprocess.Popen([BIN, "run", "--config", "proxy.toml"], cwd=FOLDER, stderr=self.log)
        port = None
        while port is None:
            await asyncio.sleep(0.1)
            if self.proxy.poll() is not None:
                raise SystemExit(f"tidegate ended: see {FOLDER}/proxy.log")
            with open(f"{FOLDER}/proxy.log") as log:
                log.seek(start)
                for line in log:
                    if '"listening"' in line and '"plain"' in line:
                        port = line.split('"address":"127.0.0.1:')[1].split('"')[0]
        self.clients = [Client(number, f"ws://127.0.0.1:{port}") for number in range(CLIENTS)]
        self.tasks = []
        for client in self.clients:
            self.tasks.append(asyncio.create_task(client.run()))
            await asyncio.sleep(0.002)
        await self.until(lambda client: client.backend is not None, 60)
        for client in self.clients:
            client.home = client.backend
            client.closes, client.opened = [], []
        return self

    async def __aexit__(self, *_):
        for client, task in zip(self.clients, self.tasks):
            client.is_over = True
            task.cancel()
        await asyncio.wait(self.tasks, timeout=30)
        self.proxy.terminate()
        for member in self.members.values():
            member.stop()
        self.proxy.kill()
        self.proxy.wait()
        self.log.close()

    async def until(self, holds, limit):
        """Waits until this holds for all clients; returns how long it took, or None."""
        start = time.monotonic()
        while time.monotonic() < start + limit:
            if all(holds(client) for client in self.clients):
                return time.monotonic() - start
            await asyncio.sleep(0.1)
        return None

    def of(self, name):
        return [client for client in self.clients if client.home == name]


def most_in_a_second(times):
    times = sorted(times)
    return max((sum(1 for at in times[n:] if at < first + 1) for n, first in enumerate(times)), default=0)


def noticed(clients):
    """What clients of healthy backends noticed, if anything."""
    count = sum(bool(client.closes or client.missed) for client in clients)
    return count and f"{count} of {len(clients)} noticed"


async def fault(title, strike, heal, is_paced, cause=None):
    """Strikes member b, and heals it when its clients are elsewhere. `heal` is None if it stays well. `cause` is what the log
    must say of a fault of TLS."""
    async with Scene(cause is not None) as scene:
        sick = scene.of("b")
        others = [client for client in scene.clients if client.home != "b"]
        share = Counter(client.home for client in scene.clients)
        uneven = min(share[name] for name in NAMES) < CLIENTS / 5
        report(f"{title}: tunnels are spread", uneven and "unevenly", dict(share))
        if asyncio.iscoroutine(struck := strike(scene.members["b"])):
            await struck
        is_served = lambda client: client.closes and client.backend and (heal is None or client.backend != "b")
        took = await scene.until(lambda client: client.home != "b" or is_served(client), 90)
        late = took is None and "not all within 90 s"
        report(f"{title}: its clients are served again", late, took and f"after {took:.1f} s")
        first = [client.closes[0] for client in sick if client.closes]
        codes = Counter(code for _, code, _ in first)
        report(f"{title}: they were closed with 1012", set(codes) != {1012} and dict(codes))
        times = [at for at, _, _ in first]
        peak, span = most_in_a_second(times), max(times) - min(times)
        is_burst = is_paced and (span < 0.7 * WINDOW or peak > 2.5 * len(sick) / WINDOW)
        measured = f"{len(first)} in {span:.1f} s, at most {peak} in a second"
        report(f"{title}: closes" + (" are paced" if is_paced else ""), is_burst and "in a burst", measured)
        report(f"{title}: clients of the others notice nothing", noticed(others))
        if cause:
            with open(f"{FOLDER}/proxy.log") as log:
                is_named = any(cause in line for line in log)
            report(f"{title}: the log has the cause", not is_named and f"no line with {cause!r}")
        if heal is None:
            return
        healed = time.monotonic()
        heal(scene.members["b"])
        took = await scene.until(lambda client: client.backend == client.home, 180)
        away = sum(client.backend != client.home for client in scene.clients)
        late = took is None and f"{away} are elsewhere after 180 s"
        report(f"{title}: its clients come home", late, took and f"after {took:.1f} s")
        back = [at for client in sick for at, name in client.opened if name == "b" and at > healed]
        peak = most_in_a_second(back)
        # Clients come back up to a second after their Close, so a second of theirs may be more than one of the proxy.
        storm = peak > 1.5 * RATE and f"more than {1.5 * RATE:.0f} in a second"
        report(f"{title}: without a storm", storm, f"at most {peak} handshakes in a second")
        report(f"{title}: the others stay where they are", noticed(others))


def killed(member):
    member.signal(signal.SIGKILL)
    member.process.wait()


def stuck(member):
    """Does not accept, while its tunnels go on; and gets no new ones."""
    member.signal(signal.SIGUSR2)


async def expires(member):
    """Waits for the end of its certificate, and for the end of the sessions that TLS could resume without it."""
    await asyncio.sleep(max(0, member.expires + 1 - time.time()))
    member.signal(signal.SIGHUP)


def renewed(member):
    member.authority.issue(member.name, 86400)
    member.signal(signal.SIGHUP)


async def main():
    # So that no process remains.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    stop, go = [lambda b, number=number: b.signal(number) for number in (signal.SIGSTOP, signal.SIGCONT)]
    # The sockets of a process that is killed are reset at once, which nothing can pace.
    await fault("kill -9", killed, Member.start, False)
    await fault("SIGSTOP", stop, go, True)
    await fault("RST", lambda b: b.signal(signal.SIGUSR1), None, False)
    await fault("no accept, full backlog", stuck, stuck, True)
    await fault("expired certificate", expires, renewed, True, "expired")
    sys.exit(1 if failed else 0)


asyncio.run(main())
