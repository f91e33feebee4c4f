"""Rates over a long distance: http2_distance.py HTTPS_BASE BACKEND CA_FILE.

A relay before tidegate delays each direction by 50 ms, and holds at most 512 KiB of it, like the window of a TCP connection.
An upload and a download through it must be at least half as fast with HTTP/2 as with HTTP/1.1.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from urllib.parse import urlsplit

from kit import must, run, same

BASE, BACKEND, CA = sys.argv[1:4]
URL = urlsplit(BASE)
DELAY_SECONDS, WINDOW_BYTES = 0.05, 512 << 10
BODY_BYTES = 16 << 20
ROUNDS = 4


async def delayed(reader, writer):
    """Passes bytes on after the delay; their order stays."""
    loop, queue, held, freed = asyncio.get_running_loop(), asyncio.Queue(), 0, asyncio.Event()

    async def pass_on():
        nonlocal held
        while True:
            due, data = await queue.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                return writer.close()
            writer.write(data)
            await writer.drain()
            held -= len(data)
            freed.set()

    passing = asyncio.create_task(pass_on())
    try:
        while True:
            while held >= WINDOW_BYTES:
                freed.clear()
                await freed.wait()
            data = await reader.read(1 << 16)
            held += len(data)
            queue.put_nowait((loop.time() + DELAY_SECONDS, data))
            if not data:
                break
        await passing
    except ConnectionError:
        passing.cancel()
        writer.close()


async def relay(reader, writer):
    onward = await asyncio.open_connection(URL.hostname, URL.port)
    await asyncio.gather(delayed(reader, onward[1]), delayed(onward[0], writer))


async def rate(port, version, *words):
    """Bytes per second of one transfer with curl."""
    speed = "%{speed_upload}" if "--upload-file" in words else "%{speed_download}"
    process = await asyncio.create_subprocess_exec(
        "curl", "--silent", "--fail", f"--{version}", "--cacert", CA, "--output", "/dev/null",
        "--write-out", f"%{{http_version}} {speed}", *words, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    same(process.returncode, 0)
    used, speed = out.decode().split()
    same(used, "2" if version == "http2" else "1.1")
    return float(speed)


async def compare(*words, path):
    server = await asyncio.start_server(relay, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    url = f"https://localhost:{port}/{BACKEND}/{path}"
    rates = []
    # The best counts, since other programs may take the processor.
    while len(rates) < ROUNDS and not (rates and second >= first / 2):
        rates.append([await rate(port, version, *words, url) for version in ("http1.1", "http2")])
        first, second = map(max, zip(*rates))
    print(f"# {path}: {first / 1e6:.1f} MB/s with HTTP/1.1, {second / 1e6:.1f} with HTTP/2", file=sys.stderr)
    must(second >= first / 2, f"{second:.0f} bytes per second, but {first:.0f} with HTTP/1.1")
    server.close()


async def upload():
    with tempfile.NamedTemporaryFile() as file:
        file.write(os.urandom(1 << 20) * (BODY_BYTES >> 20))
        file.flush()
        await compare("--upload-file", file.name, path="upload")


async def download():
    await compare(path=f"download?bytes={BODY_BYTES}")


if not shutil.which("curl"):
    sys.exit("skipped rates over a distance: curl is not installed")
CHECKS = [("an upload over 100 ms", upload), ("a download over 100 ms", download)]
sys.exit(1 if asyncio.run(run(f"http2 distance > {BACKEND}", CHECKS, limit=120)) else 0)
