"""tidegate combined with other proxies: proxies.py TIDEGATE WORK PROXY..., of haproxy and nginx.

Starts those (haproxy.cfg, nginx.conf), tidegate (proxies.toml) and a backend, and Chromium if it is
here; WORK has cert.pem and key.pem. Clients come from 127.0.0.2, proxies in front from 127.0.0.3. Prints one line per check,
`ok NAME` or `FAIL NAME: why`.
"""

import asyncio
import json
import os
import pathlib
import shutil
import socket as sockets
import ssl
import subprocess
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from kit import close_of, expect, facts, must, run, same

HERE = pathlib.Path(__file__).parent
BIN, WORK, RUNNING = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
TLS = ssl.create_default_context(cafile=WORK / "cert.pem")
CLIENT, BALANCER = "127.0.0.2", "127.0.0.3"
WITH_HAPROXY, WITH_NGINX = "haproxy" in RUNNING, "nginx" in RUNNING
INTRODUCED = ["FRONT_V2", "FRONT_V1"] if WITH_HAPROXY else []
ENDS_TLS = ["FRONT_HAPROXY", "FRONT_HTTP2"] * WITH_HAPROXY + ["FRONT_NGINX"] * WITH_NGINX
BEHIND = [f"/behind-{name}" for name in RUNNING] + ["/behind-nginx-tls"] * WITH_NGINX
TITLES = {
    "FRONT_V2": "HAProxy, send-proxy-v2", "FRONT_V1": "HAProxy, send-proxy",
    "FRONT_HAPROXY": "HAProxy, X-Forwarded-For", "FRONT_HTTP2": "HAProxy, HTTP/2 to tidegate",
    "FRONT_NGINX": "nginx, X-Forwarded-For",
}
# The address of every listener.
PORTS = {}
started = []


def start(name, *command):
    out = open(WORK / f"{name}.log", "w")
    started.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=WORK))


def until(what, look):
    for _ in range(100):
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}; its log is in {WORK}")


def answers(name):
    try:
        sockets.create_connection(("127.0.0.1", PORTS[name]), 1).close()
        return True
    except OSError:
        return False


def filled(name):
    text = (HERE / name).read_text().replace("@DIR@", str(WORK))
    for place, port in PORTS.items():
        text = text.replace(f"@{place}@", str(port))
    (WORK / name).write_text(text)
    return str(WORK / name)


def listening():
    """The ports of tidegate by listener name."""
    lines = [json.loads(line) for line in open(WORK / "tidegate.log")]
    told = [line.get("fields", line) for line in lines]
    found = {line["listener"]: line["address"] for line in told if line.get("message") == "listening"}
    return found if len(found) == 3 else None


def start_all():
    start("backend", "node", str(HERE / "backend.cjs"))
    line = until("backend", lambda: (WORK / "backend.log").read_text())
    PORTS["BACKEND"] = int(line.split()[1])
    # Ports that are free now, because these programs cannot report a port they chose.
    names = ["FRONT_V2", "FRONT_V1", "FRONT_STRANGER", "FRONT_SILENT", "FRONT_HAPROXY", "FRONT_HTTP2",
             "FRONT_NGINX"]
    held = [sockets.create_server(("127.0.0.1", 0)) for _ in range(10)]
    for name, socket in zip(names + ["BEHIND_HAPROXY", "BEHIND_NGINX", "BEHIND_NGINX_TLS"], held):
        PORTS[name] = socket.getsockname()[1]
    for socket in held:
        socket.close()
    start("tidegate", BIN, "run", "--config", filled("proxies.toml"))
    for name, address in until("tidegate", listening).items():
        PORTS[name.upper()] = int(address.rpartition(":")[2])
    (WORK / "both.pem").write_text((WORK / "cert.pem").read_text() + (WORK / "key.pem").read_text())
    if WITH_HAPROXY:
        start("haproxy", "haproxy", "-db", "-f", filled("haproxy.cfg"))
        until("haproxy", lambda: answers("FRONT_HAPROXY"))
    if WITH_NGINX:
        start("nginx", "nginx", "-e", "stderr", "-p", str(WORK), "-c", filled("nginx.conf"))
        until("nginx", lambda: answers("FRONT_NGINX"))


def stop_all():
    for process in reversed(started):
        process.terminate()
    for process in started:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def dial(way, path, secure=True, **options):
    url = f"{'wss' if secure else 'ws'}://127.0.0.1:{PORTS[way]}{path}"
    return connect(
        url, ssl=TLS if secure else None, local_addr=(CLIENT, 0), open_timeout=10,
        max_size=4 << 20, **options)


async def introduces(way):
    """The backend gets the right client address whatever the client claims, and the tunnel works."""
    lies = {"X-Forwarded-For": "203.0.113.77", "X-Real-IP": "203.0.113.78", "Forwarded": "for=203.0.113.79"}
    path = f"/forwarded?way={way}"
    async with dial(way, path, additional_headers=lies) as socket:
        headers = (await facts(socket))["headers"]
        same(headers["x-real-ip"], CLIENT)
        # The proxy in front is in the chain if it sends a header, and not if it balances TCP.
        chain = [CLIENT] if way in INTRODUCED else [CLIENT, BALANCER]
        same(headers["x-forwarded-for"], ", ".join(chain))
        same(headers["x-forwarded-proto"], "https")
        same(headers["x-forwarded-port"], str(PORTS[way]))
        same(headers["x-forwarded-host"], f"127.0.0.1:{PORTS[way]}")
        must(headers["forwarded"].startswith(f"for={CLIENT};"), headers["forwarded"])
        must("203.0.113" not in json.dumps(headers), f"a lie got through: {headers}")
        for message in ["", "x" * (1 << 20), bytes(1 << 20), os.urandom(70000)]:
            await socket.send(message)
            same(await socket.recv(), message)
        port = socket.transport.get_extra_info("sockname")[1]
        await socket.send("!close 4002 come back later")
        same(await close_of(socket), (4002, "come back later"))
    equals = {"end": "backend_closed", "client_key": CLIENT}
    if way in INTRODUCED:
        equals |= {"client": f"{CLIENT}:{port}", "client_source": "proxy_header", "listener": "introduced"}
    else:
        http2 = way == "FRONT_HTTP2"
        equals |= {"client_source": "forwarded", "listener": "prior" if http2 else "plain"}
        equals |= {"protocol": "h2"} if http2 else {}
    expect(path, equals=equals, has=["peer"])


async def origins(way):
    """A page may open WebSockets if its origin is the public https origin of the site."""
    own = f"127.0.0.1:{PORTS[way]}"
    async with dial(way, "/direct", origin=f"https://{own}") as socket:
        await socket.send("welcome")
        same(await socket.recv(), "welcome")
    for origin in [f"http://{own}", "https://evil.example", "null", f"https://{own}0"]:
        await is_refused(dial(way, "/direct", origin=origin), 403)


async def in_a_browser(way):
    """A page from another port is rejected, whether TLS is passed through or terminated in front."""
    other = next(name for name in ENDS_TLS + INTRODUCED if name != way)
    bases = [f"https://127.0.0.1:{PORTS[name]}" for name in (way, other)]
    process = await asyncio.create_subprocess_exec(
        "node", str(HERE / "chromium_origin.cjs"), *bases, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    same(json.loads(out), ["hello", "refused"])


async def is_refused(dialling, status):
    try:
        async with dialling:
            raise AssertionError("it was let in")
    except InvalidStatus as refused:
        same(refused.response.status_code, status)


async def liar():
    """Without a trusted proxy in front, claims about the client and TLS are ignored."""
    said = {"X-Forwarded-For": "203.0.113.77", "X-Forwarded-Proto": "https"}
    own = f"127.0.0.1:{PORTS['PLAIN']}"
    await is_refused(dial("PLAIN", "/direct", False, additional_headers=said, origin=f"https://{own}"), 403)
    async with dial("PLAIN", "/direct", False, additional_headers=said, origin=f"http://{own}") as socket:
        headers = (await facts(socket))["headers"]
        same((headers["x-forwarded-for"], headers["x-forwarded-proto"]), (CLIENT, "http"))


async def is_cut(way):
    try:
        async with dial(way, "/direct"):
            raise AssertionError("it was let in")
    except (InvalidHandshake, OSError, EOFError):
        pass


async def is_seen_behind(path):
    """The next proxy gets the client address from the PROXY header, however the client connected."""
    for way in INTRODUCED + ENDS_TLS:
        async with dial(way, path) as socket:
            same((way, (await facts(socket))["headers"]["x-seen-from"]), (way, CLIENT))
            for message in ["", "x" * (1 << 20), os.urandom(70000)]:
                await socket.send(message)
                same(await socket.recv(), message)
            await socket.send("!close 4002 come back later")
            same(await close_of(socket), (4002, "come back later"))
    # Plain HTTP requests have the header too.
    for way in INTRODUCED + ENDS_TLS:
        head, body = await get(way, f"{path}/page")
        must(head.startswith("HTTP/1.1 200 "), head)
        same(body, "a page of the application\n")


async def get(way, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", PORTS[way], ssl=TLS, local_addr=(CLIENT, 0))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


async def checks_health():
    """Its health checks use a PROXY header without an address (LOCAL)."""
    for _ in range(50):
        reader, writer = await asyncio.open_unix_connection(f"{WORK}/haproxy.sock")
        writer.write(b"show stat\n")
        lines = (await reader.read()).decode().lstrip("# ").strip().splitlines()
        writer.close()
        names = lines[0].split(",")
        rows = [dict(zip(names, line.split(","))) for line in lines[1:]]
        [row] = [row for row in rows if (row["pxname"], row["svname"]) == ("v2", "tidegate")]
        if row["check_status"] not in ("", "INI"):
            break
        await asyncio.sleep(0.1)
    same((row["status"], row["check_status"], row["check_code"]), ("UP", "L7OK", "200"))


async def dropped_by_name():
    wanted = {"proxy_header_untrusted", "proxy_header_missing"}
    # Records are written in batches, a moment later.
    for _ in range(100):
        with open(f"{WORK}/access.jsonl") as file:
            records = [json.loads(line) for line in file if line.endswith("\n")]
        found = {record["end"] for record in records if record["event"] == "dropped"}
        if wanted <= found:
            break
        await asyncio.sleep(0.05)
    must(wanted <= found, f"dropped for {found}")


CHECKS = [
    *[(f"{TITLES[way]}: the backend gets the client address", lambda way=way: introduces(way)) for way in INTRODUCED + ENDS_TLS],
    *[(f"{TITLES[way]}: the page's own origin, and no other", lambda way=way: origins(way)) for way in INTRODUCED + ENDS_TLS],
    *[(f"{TITLES[way]}: Chromium's page, and no other", lambda way=way: in_a_browser(way))
      for way in ENDS_TLS if shutil.which("chromium") and len(ENDS_TLS + INTRODUCED) > 1],
    ("what a client says of itself is worth nothing", liar),
    *[(f"{path[1:]}: it gets the client address by PROXY v2", lambda path=path: is_seen_behind(path)) for path in BEHIND],
    *([
        ("HAProxy's health checks succeed", checks_health),
        ("a PROXY header from who is not trusted ends the connection", lambda: is_cut("FRONT_STRANGER")),
        ("a trusted proxy without a PROXY header ends the connection", lambda: is_cut("FRONT_SILENT")),
        ("both are recorded", dropped_by_name),
    ] if WITH_HAPROXY else []),
]

try:
    start_all()
    failed = asyncio.run(run("proxies", CHECKS))
finally:
    stop_all()
sys.exit(1 if failed else 0)
