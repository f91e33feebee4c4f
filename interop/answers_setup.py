"""Runs the blocks of docs/from-*.md on loopback: extracts them, replaces their addresses, ports and paths
by ones of this machine, and starts tidegate, nginx and backends.

A block of TOML is a complete file if its first line is `# proxy.toml`. Otherwise its tables are added to
the first file of docs/from-nginx.md, in place of a listener with the same address and of a route with the
same host and path. A client at 127.0.0.2 takes the place of every address that is listed as trusted or
allowed, 127.0.0.4 of those that are denied.
"""

import asyncio
import functools
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import tomllib

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

DOCS = pathlib.Path(__file__).parent.parent / "docs"
PAGES = ["from-nginx", "from-haproxy", "from-caddy", "from-traefik"]
CLIENT, LISTED, DENIED = "127.0.0.3", "127.0.0.2", "127.0.0.4"
DEADLINE = 20


def blocks(page):
    """The fenced blocks of a page: (anchor of the heading, language, text, line)."""
    found, anchor, fence = [], "", None
    for number, line in enumerate((DOCS / f"{page}.md").read_text().splitlines(), 1):
        if fence is not None:
            if line == "```":
                found.append((anchor, fence[0], "\n".join(fence[2]) + "\n", fence[1]))
                fence = None
            else:
                fence[2].append(line)
        elif line.startswith("```"):
            fence = (line[3:], number, [])
        elif line.startswith("#"):
            anchor = re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
    return found


def free_port(host="127.0.0.1"):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as held:
        held.bind((host, 0))
        return held.getsockname()[1]


def tables(text):
    """The text of a TOML file by its top-level tables, with the sub-tables of a table."""
    parts = []
    for line in text.splitlines(keepends=True):
        is_sub = re.match(r"\[(route|listener|certificate)\.", line)
        if not parts or (line.startswith("[") and not is_sub):
            parts.append("")
        parts[-1] += line
    return parts


def key_of(table):
    """What identifies a table: its name, and the address or host and path."""
    name, [*rows] = next(iter(tomllib.loads(table).items()), ("", []))
    if not rows or not isinstance(rows[0], dict):
        return name
    return name, rows[0].get("address"), rows[0].get("host"), rows[0].get("path", "/")


def whole_file(block, base):
    """The complete configuration that a block stands for."""
    if block.startswith("# proxy.toml"):
        return block
    own = tables(block)
    replaced = {key_of(table) for table in own if table.startswith("[[")}
    kept = [table for table in tables(base) if key_of(table) not in replaced]
    return "\n".join(kept + own)


class Backends:
    """One application for each address that a configuration names."""

    def __init__(self):
        self.servers, self.ports = [], {}

    async def port_of(self, address, with_proxy_header=False):
        if address not in self.ports:
            app = await serve(functools.partial(self.talk, address), "127.0.0.1", 0,
                              process_request=functools.partial(self.page, address))
            port = app.sockets[0].getsockname()[1]
            self.servers.append(app)
            if with_proxy_header:
                front = await asyncio.start_server(functools.partial(self.unwrap, port), "127.0.0.1", 0)
                self.servers.append(front)
                port = front.sockets[0].getsockname()[1]
            self.ports[address] = port
        return self.ports[address]

    @staticmethod
    def facts(address, request):
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        return json.dumps({"backend": address, "path": request.path, "headers": headers})

    async def page(self, address, ws, request):
        if request.headers.get("Upgrade") is None:
            return ws.respond(200, self.facts(address, request))
        return None

    async def talk(self, address, ws):
        async for message in ws:
            await ws.send(self.facts(address, ws.request) if message == "facts" else message)

    @staticmethod
    async def unwrap(port, reader, writer):
        """Removes a PROXY header, version 2, as an application that expects one does."""
        head = await reader.readexactly(16)
        assert head.startswith(b"\r\n\r\n\0\r\nQUIT\n"), head
        await reader.readexactly(int.from_bytes(head[14:]))
        onward, back = await asyncio.open_connection("127.0.0.1", port)
        async def pipe(source, sink):
            while data := await source.read(65536):
                sink.write(data)
            sink.close()
        await asyncio.gather(pipe(reader, back), pipe(onward, writer))

    def close(self):
        for server in self.servers:
            server.close()


class Gate:
    """tidegate, running with one block."""

    def __init__(self, binary, folder, block, base):
        self.binary, self.folder, self.backends = binary, folder, Backends()
        self.text = whole_file(block, base)
        self.written = tomllib.loads(self.text)
        self.listeners, self.places, self.processes = {}, {}, []
        folder.mkdir(parents=True)
        # The path of a Unix socket is short.
        self.runtime = tempfile.TemporaryDirectory(prefix="tidegate-")
        self.env = os.environ | {"RUNTIME_DIRECTORY": self.runtime.name, "TIDEGATE_CONFIG": str(folder)}
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "tidegate").symlink_to(pathlib.Path(binary).resolve())
        self.env["PATH"] = f"{bin_folder}:{self.env['PATH']}"

    async def prepare(self):
        """Replaces what belongs to another machine, and writes the files."""
        for listener in self.written.get("listener", []):
            host = "::1" if listener["address"].startswith("[") else "127.0.0.1"
            self.listeners[listener["address"]] = (host, free_port(host))
            shown = f"[{host}]" if ":" in host else host
            self.places[listener["address"]] = f"{shown}:{self.listeners[listener['address']][1]}"
        for route in self.written["route"]:
            for backend in route["backends"]:
                address = backend if isinstance(backend, str) else backend["address"]
                port = await self.backends.port_of(address, route.get("proxy_protocol", False))
                self.places[address] = f"127.0.0.1:{port}"
        admin = self.written.get("admin", {}).get("address")
        self.admin_port = free_port()
        if admin:
            self.places[admin] = f"127.0.0.1:{self.admin_port}"
        else:
            self.text += f'\n[admin]\naddress = "127.0.0.1:{self.admin_port}"\n'
        self.text = self.filled(self.text)
        self.make_certificates()
        for name in self.written.get("trusted_proxies", {}).get("address_files", []):
            (self.folder / name).write_text(f"{LISTED}/32\n" if "v4" in name else "2400:cb00::/32\n")
        for name in self.written.get("error_pages", {}).values():
            (self.folder / name).write_text("<p>back soon</p>\n")
        (self.folder / "proxy.toml").write_text(self.text)

    def filled(self, text):
        """Replaces addresses and paths in a block of any kind."""
        for old, new in self.places.items():
            text = re.sub(rf"(?<![\w.]){re.escape(old)}(?!\d)", new, text)
        for folder in ["/etc/tidegate/", "/var/log/tidegate/", "/certs/", "/config/"]:
            text = text.replace(folder, f"{self.folder}/")
        def listed(key, instead):
            nonlocal text
            pattern = rf'^((?:{key}) = \[)([^\]]*)\]'
            def local(match):
                items = [item if "127.0.0.1" in item else f'"{instead}"' for item in match[2].split(",")]
                return f"{match[1]}{', '.join(dict.fromkeys(item.strip() for item in items))}]"
            text = re.sub(pattern, local, text, flags=re.M)
        listed("addresses|allow", LISTED)
        listed("deny", DENIED)
        return text

    def make_certificates(self):
        hosts = {route["host"] for route in self.written["route"]} - {"*"}
        names = ",".join(f"DNS:{host}" for host in sorted(hosts | {"localhost"}))
        key, chain = self.folder / "made.key", self.folder / "made.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "90", "-subj", "/CN=answers", "-addext", f"subjectAltName={names}",
             "-keyout", key, "-out", chain], check=True, capture_output=True)
        os.chmod(key, 0o600)
        self.tls = ssl.create_default_context(cafile=chain)
        for certificate in self.written.get("certificate", []):
            places = [self.folder / self.filled(certificate[name]) for name in ("chain", "key")]
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
            both = chain.read_text() + key.read_text() if places[0] == places[1] else None
            for place, source in zip(places, [chain, key]):
                place.write_text(both or source.read_text())
                os.chmod(place, 0o600)

    def run(self, *command, **options):
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True,
                              timeout=DEADLINE, **options)

    def ctl(self, *words):
        done = self.run(self.binary, "ctl", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def check(self):
        done = self.run(self.binary, "check", "--config", "proxy.toml")
        assert done.returncode == 0, done.stderr
        assert not done.stderr, done.stderr

    async def start(self):
        await self.prepare()
        self.check()
        self.gate = self.spawn("tidegate", self.binary, "run", "--config", str(self.folder / "proxy.toml"))
        for host, port in self.listeners.values():
            await self.until_open(host, port, self.gate, "tidegate")

    def spawn(self, name, *command):
        log = open(self.folder / f"{name}.log", "w")
        process = subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    async def until_open(self, host, port, process, name):
        for _ in range(DEADLINE * 20):
            try:
                socket.create_connection((host, port), 1).close()
                return
            except OSError:
                assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-600:]
                await asyncio.sleep(0.05)
        raise AssertionError(f"{name} does not listen: {(self.folder / f'{name}.log').read_text()[-600:]}")

    def stop(self):
        self.backends.close()
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            # A second SIGTERM skips drain.delay.
            for limit, act in [(1, process.terminate), (10, process.kill), (10, lambda: None)]:
                try:
                    process.wait(limit)
                    break
                except subprocess.TimeoutExpired:
                    act()
        self.runtime.cleanup()

    # ---- requests ----

    def socket_to(self, listener, client, before=b""):
        host, port = self.listeners[listener] if isinstance(listener, str) else listener
        made = socket.create_connection((host, port), DEADLINE, ("::1" if ":" in host else client, 0))
        made.sendall(before)
        return made

    def is_tls(self, listener):
        if not isinstance(listener, str):
            return True
        [found] = [of for of in self.written["listener"] if of["address"] == listener]
        return found.get("tls", True)

    async def get(self, listener, host, path, client=CLIENT, headers=(), before=b"", tls=None):
        """The status, headers and body of a response; facts if the body has them."""
        def fetch():
            made = self.socket_to(listener, client, before)
            if self.is_tls(listener) if tls is None else tls:
                made = self.tls.wrap_socket(made, server_hostname=host)
            exchange = http.client.HTTPConnection(host)
            exchange.sock = made
            exchange.request("GET", path, headers={"Host": host, "Connection": "close", **dict(headers)})
            response = exchange.getresponse()
            body = response.read()
            exchange.close()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return response.status, fields, json.loads(body) if body[:1] == b"{" else body
        return await asyncio.wait_for(asyncio.to_thread(fetch), DEADLINE)

    def dial(self, listener, host, path, client=CLIENT, before=b"", **options):
        made = self.socket_to(listener, client, before)
        secure = self.is_tls(listener)
        if secure:
            options |= {"ssl": self.tls, "server_hostname": host}
        made.setblocking(False)
        return connect(f"{'wss' if secure else 'ws'}://{host}{path}", sock=made, open_timeout=DEADLINE, **options)

    async def talk(self, listener, host, path, **options):
        """Opens a WebSocket, sends a message and receives it; returns what the backend saw."""
        async with self.dial(listener, host, path, **options) as ws:
            await ws.send("hello")
            assert await asyncio.wait_for(ws.recv(), DEADLINE) == "hello"
            await ws.send("facts")
            return json.loads(await asyncio.wait_for(ws.recv(), DEADLINE))
