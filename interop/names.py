"""The name of backends in a real DNS server: names.py TIDEGATE FOLDER, in network and mount namespaces of its own.

dnsmasq answers for the name, and after each change all 40 tunnels must still relay: an address is added, removed, missing now
and then, the order changes, one family is missing, the name does not exist, has no address, the server fails, is dead, and
answers with 200 addresses, which do not fit into UDP.

Prints one line per check, `ok NAME` or `FAIL NAME: why`, with what was measured.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

BIN, FOLDER = sys.argv[1], sys.argv[2]
NAME, PORT, TUNNELS = "app.internal", 9000, 40
# Neither pings nor compression, and time to open on a busy machine.
QUIET = {"compression": None, "ping_interval": None, "proxy": None, "open_timeout": 40}
CONFIG = f"""
[[listener]]
name = "plain"
address = "127.0.0.1:8080"
tls = false

[[route]]
name = "chat"
host = "*"
origins = ["missing"]
pool = "chat"

[[pool]]
name = "chat"
backends = ["{NAME}:{PORT}"]
resolve = "1s"
hash = "query:user"
on_backend_loss = "drain"

# All clients have one address.
[rates]
handshakes_per_client = "10000/s"
handshakes_burst = 10000

[admin]
enabled = false

[control]
socket = "control.sock"

[log]
format = "json"
"""


def v4(*numbers):
    return [f"127.0.1.{number}" for number in numbers]


def ids(addresses):
    return [f"[{ip}]:{PORT}" if ":" in ip else f"{ip}:{PORT}" for ip in addresses]


class SickServer(asyncio.DatagramProtocol):
    """Answers each query with SERVFAIL, which dnsmasq passes on."""

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, peer):
        self.transport.sendto(query[:2] + b"\x81\x82" + query[4:6] + bytes(6) + query[12:], peer)


class Dnsmasq:
    """The server at 127.0.0.1:53. Some answers need another process of it."""

    process = None

    def start(self, *options):
        self.stop()
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root",
                   "--pid-file=", "--no-resolv", "--no-hosts", "--listen-address=127.0.0.1",
                   "--bind-interfaces", "--local-ttl=1", "--cache-size=0", *options]
        self.process = subprocess.Popen(command, stderr=open(f"{FOLDER}/dnsmasq.log", "a"))
        deadline = time.monotonic() + 5
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"dnsmasq did not start: see {FOLDER}/dnsmasq.log")
            try:
                socket.create_connection(("127.0.0.1", 53), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def answer(self, addresses):
        """The name has these addresses; with none, it does not exist."""
        with open(f"{FOLDER}/hosts", "w") as file:
            file.writelines(f"{ip} {NAME}\n" for ip in addresses)
        self.start(f"--addn-hosts={FOLDER}/hosts", "--local=/internal/")

    def empty(self):
        """The name exists, and has no address."""
        self.start("--local=/internal/", f"--txt-record={NAME},nothing")

    def fail(self):
        self.start(f"--server=/internal/127.0.0.1#5353")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None


async def command(request):
    reader, writer = await asyncio.open_unix_connection(f"{FOLDER}/control.sock", limit=1 << 24)
    writer.write(json.dumps(request).encode() + b"\n")
    line = await reader.readline()
    writer.close()
    return json.loads(line)


async def status():
    answer = await command({"command": "status"})
    return answer.get("ok", answer)


class Checks:
    """The tunnels, and what was found."""

    def __init__(self, dns):
        self.dns, self.failed, self.tunnels = dns, False, []

    def report(self, name, problem, measured=""):
        self.failed |= bool(problem)
        print(f"FAIL names: {name}: {problem} {measured}" if problem else f"ok names: {name} {measured}", flush=True)

    async def open(self, stack):
        """Opens a tunnel for each user, and returns their backends."""
        found = []
        for user in range(TUNNELS):
            url = f"ws://127.0.0.1:8080/?user={user}"
            link = await stack.enter_async_context(connect(url, **QUIET))
            found.append(await link.recv())
            self.tunnels.append(link)
        return found

    async def new(self):
        """The backends of new tunnels, which do not stay."""
        before = len(self.tunnels)
        async with AsyncExitStack() as stack:
            found = await self.open(stack)
        del self.tunnels[before:]
        return set(found)

    async def expect(self, name, members, problem=None, opens=None):
        """Waits until the pool has these members, and checks that nothing happened to the tunnels. `problem` is part of the
        cause why lookups fail, `opens` are the backends that new tunnels must meet."""
        start, why = time.monotonic(), None
        while time.monotonic() < start + 8:
            pool = (await status())["pools"][0]
            present = [row["id"] for row in pool["backends"] if row["state"] != "absent"]
            shown = pool["names"][0]["problem"]
            is_shown = (shown is None) == (problem is None) and (problem or "") in (shown or "")
            if sorted(present) == sorted(members) and is_shown:
                break
            why = f"the members are {present[:4]} ({len(present)}), the problem {shown}"
            await asyncio.sleep(0.05)
        else:
            return self.report(name, why)
        took = f"after {time.monotonic() - start:.1f} s"
        try:
            await self.relay()
        except Exception as error:
            return self.report(name, f"a tunnel does not relay: {error!r}")
        if opens is not None and (found := await self.new()) != set(opens):
            return self.report(name, f"new tunnels are at {found}")
        self.report(name, None, took)

    async def relay(self):
        async def one(link):
            await link.send("x")
            assert await asyncio.wait_for(link.recv(), 5) == "x"

        await asyncio.gather(*(one(link) for link in self.tunnels))


async def backend(link):
    local = link.transport.get_extra_info("sockname")
    await link.send(ids([local[0]])[0])
    try:
        async for message in link:
            await link.send(message)
    except ConnectionClosed:
        pass


async def run(checks, dns, stack):
    name = f"{NAME}:{PORT}"
    await checks.expect("the addresses are backends", ids(v4(1, 2)))
    first = await checks.open(stack)
    checks.report("tunnels are spread", set(first) != set(ids(v4(1, 2))) and set(first))
    dns.answer(v4(1, 2, 3))
    await checks.expect("an address is added", ids(v4(1, 2, 3)), opens=ids(v4(1, 2, 3)))
    for order in [(3, 2, 1), (2, 3, 1)]:
        dns.answer(v4(*order))
        await asyncio.sleep(1.2)
    await checks.expect("another order means nothing", ids(v4(1, 2, 3)))
    dns.answer(v4(2, 3))
    await checks.expect("an address is removed", ids(v4(2, 3)), opens=ids(v4(2, 3)))
    rows = {row["id"]: row for row in (await status())["pools"][0]["backends"]}
    gone = rows.get(ids(v4(1))[0], {})
    is_wrong = gone.get("state") != "absent" or gone.get("tunnels") != first.count(ids(v4(1))[0])
    checks.report("its tunnels are shown as those of an absent one", is_wrong and gone)
    for n in range(6):
        dns.answer(v4(2) if n % 2 else v4(1, 2, 3))
        await asyncio.sleep(0.5)
    await checks.expect("an address flaps", [name])
    dns.answer(v4(1, 2))
    await checks.expect("several again", ids(v4(1, 2)))
    both = ids(v4(1, 2))
    dns.answer([])
    await checks.expect("NXDOMAIN keeps the last answer", both, "not known", both)
    dns.empty()
    await checks.expect("no address keeps the last answer", both, "No address", both)
    dns.fail()
    await checks.expect("SERVFAIL keeps the last answer", both, "Temporary failure", both)
    dns.answer(v4(2, 1))
    await checks.expect("lookups succeed again", both)
    dns.stop()
    await checks.expect("a dead server keeps the last answer", both, "", both)
    dns.answer(v4(1, 2) + ["::1"])
    await checks.expect("a second family is added", both + ids(["::1"]), opens=both + ids(["::1"]))
    dns.answer(v4(1, 2))
    await checks.expect("one family is missing", both, opens=both)
    dns.answer(v4(1, 2) + ["::1"])
    await checks.expect("it is back", both + ids(["::1"]))
    dns.answer(v4(*range(1, 201)))
    await checks.expect("200 addresses, truncated over UDP", ids(v4(*range(1, 201))))
    dns.answer(v4(1))
    await checks.expect("one address is left", [name], opens=ids(v4(1)))
    rows = {row["id"]: row["tunnels"] for row in (await status())["pools"][0]["backends"]}
    wanted = {name: first.count(ids(v4(1))[0]), ids(v4(2))[0]: first.count(ids(v4(2))[0])}
    checks.report("tunnels belong to the addresses that they were opened to", rows != wanted and f"{rows}, not {wanted}")
    generation = (await status())["generation"]
    checks.report("all this is no reload", generation != 1 and generation)


async def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.makedirs(FOLDER)
    with open(f"{FOLDER}/resolv.conf", "w") as file:
        file.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", f"{FOLDER}/resolv.conf", "/etc/resolv.conf"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with open(f"{FOLDER}/proxy.toml", "w") as file:
        file.write(CONFIG)
    dns = Dnsmasq()
    checks = Checks(dns)
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(SickServer, ("127.0.0.1", 5353))
    proxy = None
    try:
        async with AsyncExitStack() as stack:
            hosts = v4(*range(1, 201)) + ["::1"]
            await stack.enter_async_context(serve(backend, hosts, PORT, compression=None, ping_interval=None, open_timeout=40))
            dns.answer(v4(1, 2))
            with open(f"{FOLDER}/proxy.log", "w") as log:
                proxy = subprocess.Popen([BIN, "run", "--config", "proxy.toml"], cwd=FOLDER, stderr=log)
            deadline = time.monotonic() + 10
            while not os.path.exists(f"{FOLDER}/control.sock"):
                if proxy.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"tidegate did not start: see {FOLDER}/proxy.log")
                await asyncio.sleep(0.05)
            async with AsyncExitStack() as tunnels:
                await run(checks, dns, tunnels)
                proxy.kill()
    finally:
        dns.stop()
        if proxy:
            proxy.kill()
            proxy.wait()
    return checks.failed


sys.exit(asyncio.run(asyncio.wait_for(main(), 100)))
