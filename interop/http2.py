"""HTTP/2 with Python `h2`, curl, nghttp and h2load: http2.py HTTPS_BASE BACKEND CA_FILE.

`h2` sends what no library would: each of these must end its connection with ENHANCE_YOUR_CALM.
"""

import asyncio
import contextlib
import re
import shutil
import ssl
import subprocess
import sys
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events

from kit import must, run, same

BASE, BACKEND, CA = sys.argv[1:4]
URL = urlsplit(BASE)
PAGE = f"/{BACKEND}/page"
CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


class Connection:
    """One connection, whose events are read as they come."""

    async def open(self):
        tls = ssl.create_default_context(cafile=CA)
        tls.set_alpn_protocols(["h2"])
        self.reader, self.writer = await asyncio.open_connection(
            URL.hostname, URL.port, ssl=tls, server_hostname="localhost"
        )
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.h2.initiate_connection()
        self.events = []
        await self.flush()
        return self

    async def flush(self):
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def read(self, kind):
        """The next event of this kind; an error if the connection ends first."""
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    self.events.remove(event)
                    return event
            data = await self.reader.read(65536)
            must(data, "the connection ended")
            self.events += self.h2.receive_data(data)
            with contextlib.suppress(ConnectionError):
                await self.flush()

    def request(self, **more):
        stream = self.h2.get_next_available_stream_id()
        head = {":method": "GET", ":scheme": "https", ":authority": URL.netloc, ":path": PAGE, **more}
        self.h2.send_headers(stream, list(head.items()), end_stream=True)
        return stream


async def page():
    connection = await Connection().open()
    for _ in range(5):
        connection.request()
        await connection.flush()
        head = dict((await connection.read(h2.events.ResponseReceived)).headers)
        status = head.get(b":status") or head.get(":status")
        must(status in (b"200", "200"), f"{head}")
        await connection.read(h2.events.StreamEnded)
    connection.writer.close()


async def flooded(send):
    connection = await Connection().open()
    await connection.read(h2.events.RemoteSettingsChanged)
    ended = asyncio.create_task(connection.read(h2.events.ConnectionTerminated))
    with contextlib.suppress(ConnectionError):
        for _ in range(2000):
            if ended.done():
                break
            send(connection)
            await connection.flush()
            await asyncio.sleep(0)
    event = await ended
    same(event.error_code, CALM)
    # Others are served.
    await page()


def rapid_reset(connection):
    for _ in range(10):
        stream = connection.request()
        connection.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)


def pings(connection):
    connection.h2.ping(b"12345678")


def settings(connection):
    connection.h2.update_settings({4: 65535})


async def command(*words):
    must(shutil.which(words[0]), f"{words[0]} is not installed")
    done = await asyncio.to_thread(
        subprocess.run, words, capture_output=True, text=True, timeout=60, check=False
    )
    same((done.returncode, done.stderr[-200:]), (0, ""))
    return done.stdout


async def curl():
    out = await command(
        "curl", "--silent", "--http2", "--cacert", CA, "--output", "/dev/null",
        "--write-out", "%{http_version} %{http_code}", f"https://localhost:{URL.port}{PAGE}",
    )
    same(out, "2 200")


async def nghttp():
    out = await command("nghttp", "--no-verify-peer", "-nv", f"https://localhost:{URL.port}{PAGE}")
    must(":status: 200" in out, out[-200:])


async def h2load():
    out = await command("h2load", "-n", "600", "-c", "3", "-m", "50", f"https://localhost:{URL.port}{PAGE}")
    found = re.search(r"requests: 600 total.* (\d+) succeeded", out)
    same(found and found.group(1), "600")


CHECKS = [
    ("requests", page),
    ("rapid reset is ended", lambda: flooded(rapid_reset)),
    ("a flood of PING is ended", lambda: flooded(pings)),
    ("a flood of SETTINGS is ended", lambda: flooded(settings)),
    ("curl", curl),
]
for tool, check in (("nghttp", nghttp), ("h2load", h2load)):
    if shutil.which(tool):
        CHECKS.append((tool, check))
    else:
        print(f"skipped {tool}: not installed, and the Debian package nghttp2-client cannot be installed")

sys.exit(1 if asyncio.run(run(f"http2 python > {BACKEND}", CHECKS, limit=60)) else 0)
