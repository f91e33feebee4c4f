"""Certificates that tidegate gets from Pebble by itself: acme.py TIDEGATE WORK_FOLDER.

Pebble rejects every second nonce and validates after a random time. curl and Chromium must accept what it
issues, with its root given. Prints one line per check.
"""

import asyncio
import contextlib
import http
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from acme_pebble import EAB_KEY, Pebble, free_port, until
from kit import must, run, same

TIDEGATE, WORK = sys.argv[1], pathlib.Path(sys.argv[2])
HERE = pathlib.Path(__file__).parent
HOST = "chat.example.com"
# The longest that a first page may take.
FIRST_PAGE = 10
MANY = 200


class Tidegate:
    """`tidegate run` with this configuration, in a folder of its own that stays for the next one."""

    def __init__(self, folder, config):
        self.folder = WORK / folder
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "proxy.toml").write_text('[control]\nsocket = "control.sock"\n' + config)

    async def __aenter__(self):
        self.log = open(self.folder / "tidegate.log", "a")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [TIDEGATE, "run", "--config", "proxy.toml"], cwd=self.folder, stderr=self.log,
            env={**os.environ, "RUNTIME_DIRECTORY": str(self.folder)},
        )
        return self

    async def __aexit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait, 60)
        self.log.close()
        same(code, 0)

    def text(self):
        return (self.folder / "tidegate.log").read_text()

    async def ctl(self, *words):
        return await command(TIDEGATE, "ctl", "--socket", str(self.folder / "control.sock"), *words)


async def command(*words):
    must(shutil.which(words[0]) or pathlib.Path(words[0]).exists(), f"{words[0]} is not installed")
    done = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, timeout=120, check=False
    )
    must(done.returncode == 0, f"{pathlib.Path(words[0]).name}: {done.stderr[-300:]} {done.stdout[-300:]}")
    return done.stdout


def page(connection, request):
    """Answers everything that is not a WebSocket handshake."""
    if request.headers.get("Upgrade") is None:
        return connection.respond(http.HTTPStatus.OK, "a page\n")
    return None


async def echo(tunnel):
    async for message in tunnel:
        await tunnel.send(message)


@contextlib.asynccontextmanager
async def backend():
    async with serve(echo, "127.0.0.1", 0, process_request=page) as server:
        yield server.sockets[0].getsockname()[1]


def config(pebble, port, acme="", routes=None, listener=""):
    """Two listeners, `[acme]`, and a route for each host."""
    text = f"""
[log]
format = "json"

[[listener]]
address = "127.0.0.1:{pebble.tls_port}"
http2 = true

[[listener]]
address = "127.0.0.1:{pebble.http_port}"
tls = false
redirect = "https"
{listener}
[acme]
accept_terms = true
directory = "{pebble.directory}"
ca = "{pebble.ca}"
state_directory = "state"
{acme}"""
    for host in routes or [HOST]:
        text += f'\n[[route]]\nhost = "{host}"\norigins = ["same-origin", "missing"]\nbackends = ["127.0.0.1:{port}"]\n'
    return text


async def curl(pebble, host=HOST, *more):
    """The page by curl, which trusts Pebble's root and nothing else."""
    return await command(
        "curl", "--silent", "--show-error", "--max-time", "20", "--cacert", pebble.root,
        "--resolve", f"{host}:{pebble.tls_port}:127.0.0.1", "--write-out", "%{http_version} %{http_code}",
        *more, f"https://{host}:{pebble.tls_port}/",
    )


async def first_page(pebble, host=HOST):
    """Tries until the page is served; how long it took is for the caller to measure."""
    def look():
        done = subprocess.run(
            ["curl", "--silent", "--max-time", "5", "--cacert", pebble.root, "--resolve",
             f"{host}:{pebble.tls_port}:127.0.0.1", f"https://{host}:{pebble.tls_port}/"],
            capture_output=True, text=True, check=False,
        )
        return done.stdout == "a page\n"

    await until(f"a page of {host}", look)


def leaf(pebble, host=HOST, protocols=("h2", "http/1.1")):
    """The certificate that a client gets that offers these protocols."""
    trust = ssl.create_default_context(cafile=pebble.root)
    trust.set_alpn_protocols(list(protocols))
    with contextlib.closing(socket.create_connection(("127.0.0.1", pebble.tls_port))) as raw:
        with trust.wrap_socket(raw, server_hostname=host) as stream:
            return stream.getpeercert()


async def first_issue():
    async with backend() as port, Pebble(WORK / "pebble-first", PEBBLE_VA_NOSLEEP="1") as pebble:
        async with Tidegate("first", config(pebble, port)) as tidegate:
            await first_page(pebble)
            took = time.monotonic() - tidegate.began
            must(took < FIRST_PAGE, f"the first page took {took:.1f} s")
            print(f"   first page {took:.1f} s after the start", flush=True)
            same(await curl(pebble), "a page\n2 200")
            same(await curl(pebble, HOST, "--http1.1"), "a page\n1.1 200")


async def renewal():
    """A tunnel stays open while the certificate is renewed."""
    async with backend() as port, Pebble(WORK / "pebble-renew", PEBBLE_VA_SLEEPTIME="3") as pebble:
        async with Tidegate("renew", config(pebble, port)) as tidegate:
            await first_page(pebble)
            before = leaf(pebble)["serialNumber"]
            trust = ssl.create_default_context(cafile=pebble.root)
            async with connect(
                f"wss://{HOST}:{pebble.tls_port}/", ssl=trust, host="127.0.0.1", server_hostname=HOST
            ) as tunnel:
                for _ in range(2):
                    await tidegate.ctl("renew", HOST)
                    await until("another certificate", lambda old=before: leaf(pebble)["serialNumber"] != old)
                    before = leaf(pebble)["serialNumber"]
                    await tunnel.send("still open")
                    same(await tunnel.recv(), "still open")
            listed = await tidegate.ctl("certs")
            must(HOST in listed, listed)


async def restart():
    """A second start uses the stored certificate and orders nothing."""
    async with backend() as port, Pebble(WORK / "pebble-restart", PEBBLE_VA_NOSLEEP="1") as pebble:
        async with Tidegate("restart", config(pebble, port)):
            await first_page(pebble)
        before, orders = leaf_file("restart"), pebble.log().count("/order-plz")
        async with Tidegate("restart", config(pebble, port)):
            await first_page(pebble)
        same((leaf_file("restart"), pebble.log().count("/order-plz")), (before, orders))


def leaf_file(folder):
    return (WORK / folder / "state/acme/certificates" / HOST / "chain.pem").read_text()


async def http_01():
    async with backend() as port, Pebble(WORK / "pebble-http", PEBBLE_VA_NOSLEEP="1") as pebble:
        async with Tidegate("http", config(pebble, port, 'challenge = "http-01"\n')):
            await first_page(pebble)
            must("http-01" in pebble.log() or "acme-challenge" in pebble.log(), "another challenge was used")


async def external_account():
    async with backend() as port, Pebble(WORK / "pebble-eab", external_account=True, PEBBLE_VA_NOSLEEP="1") as pebble:
        key = WORK / "eab.key"
        key.write_text(EAB_KEY[1] + "\n")
        key.chmod(0o600)
        keys = f'eab_key_id = "{EAB_KEY[0]}"\neab_key_file = "{key}"\n'
        async with Tidegate("eab", config(pebble, port, keys)):
            await first_page(pebble)


HOOK = """#!/bin/sh
# set NAME VALUE, or clean NAME VALUE, in the DNS server of Pebble.
case $1 in
  set) path=set-txt ;;
  clean) path=clear-txt ;;
esac
exec curl --silent --fail --data "{\\"host\\":\\"$2.\\",\\"value\\":\\"$3\\"}" http://127.0.0.1:@PORT@/$path
"""


async def wildcard():
    async with backend() as port, Pebble(WORK / "pebble-dns", PEBBLE_VA_NOSLEEP="1") as pebble:
        hook = WORK / "hook"
        hook.write_text(HOOK.replace("@PORT@", str(pebble.dns_manage)))
        hook.chmod(0o755)
        keys = f'challenge = "dns-01"\ndns_hook = "{hook}"\n' \
            '\n[[certificate]]\nacme = true\nnames = ["*.example.com"]\n'
        async with Tidegate("dns", config(pebble, port, keys)):
            await first_page(pebble)
            same(dict(leaf(pebble)["subjectAltName"]), {"DNS": "*.example.com"})


async def many_names():
    """Half of them in one certificate, the others with one each."""
    hosts = [f"h{number}.example.com" for number in range(MANY)]
    table = f"\n[[certificate]]\nacme = true\nnames = {json.dumps(hosts[:MANY // 2])}\n"
    async with backend() as port, Pebble(WORK / "pebble-many", PEBBLE_VA_NOSLEEP="1") as pebble:
        async with Tidegate("many", config(pebble, port, table, hosts)) as tidegate:
            await until("all certificates", lambda: tidegate.text().count("certificate issued") == MANY // 2 + 1)
            await first_page(pebble, hosts[-1])
            for host in hosts:
                must(leaf(pebble, host), host)


async def challenge_protocol():
    """While a challenge is pending, only a client that offers `acme-tls/1` alone gets its certificate."""
    async with backend() as port, Pebble(
        WORK / "pebble-alpn", PEBBLE_VA_SLEEPTIME="15", PEBBLE_AUTHZREUSE="0"
    ) as pebble:
        async with Tidegate("alpn", config(pebble, port)) as tidegate:
            await first_page(pebble)
            issued = leaf(pebble)["serialNumber"]
            await tidegate.ctl("renew", HOST)
            seen = set()

            def look():
                # OpenSSL shows the certificate without trusting it.
                shown = subprocess.run(
                    ["openssl", "s_client", "-connect", f"127.0.0.1:{pebble.tls_port}", "-servername", HOST,
                     "-alpn", "acme-tls/1", "-showcerts"],
                    input="", capture_output=True, text=True, check=False, timeout=20,
                ).stdout
                seen.add("challenge" if "ALPN protocol: acme-tls/1" in shown else "none")
                # A client of HTTP/2 gets a certificate that it trusts at any time.
                return leaf(pebble)["serialNumber"] != issued

            await until("the renewed certificate", look)
            must("challenge" in seen, "no challenge was pending")
            # Afterwards nothing answers the protocol.
            seen.clear()
            look()
            same(seen, {"none"})


async def chromium():
    for program, package in (("chromium", "chromium"), ("certutil", "libnss3-tools")):
        must(shutil.which(program), f"{program} is not installed (Debian's {package})")
    async with backend() as port, Pebble(WORK / "pebble-chromium", PEBBLE_VA_NOSLEEP="1") as pebble:
        home = WORK / "home"
        database = home / ".pki/nssdb"
        database.mkdir(parents=True, exist_ok=True)
        await command("certutil", "-N", "--empty-password", "-d", f"sql:{database}")
        await command("certutil", "-A", "-d", f"sql:{database}", "-n", "Pebble", "-t", "C,,", "-i", pebble.root)
        async with Tidegate("chromium", config(pebble, port)):
            await first_page(pebble)
            out = await command("node", str(HERE / "acme.cjs"), f"https://{HOST}:{pebble.tls_port}/", str(home))
            found = json.loads(out)
            same((found["status"], found["echo"]), (200, "from Chromium"))
            must(found["issuer"].startswith("Pebble Intermediate"), found)


async def nonces():
    must(Pebble.repeated > 0, "no request was sent again")


CHECKS = [
    (f"a page under {FIRST_PAGE} s after the first start; curl accepts the certificate", first_issue),
    ("renewal while a WebSocket is open, with delayed validation", renewal),
    ("a restart orders nothing", restart),
    ("http-01 on the redirect listener", http_01),
    ("an external account", external_account),
    ("a wildcard by dns-01 and a hook", wildcard),
    ("only acme-tls/1 sees the challenge, next to HTTP/2", challenge_protocol),
    ("Chromium accepts the certificate and opens a WebSocket", chromium),
    (f"{MANY} names", many_names),
    ("rejected nonces were used in all of these", nonces),
]


async def main():
    must(shutil.which("pebble") and shutil.which("pebble-challtestsrv"), "pebble is not installed")
    return await run("acme", CHECKS, limit=180)


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main()) else 0)
