"""Rotates the access log under traffic: rotation.py WS_URL CA_FILE PID RECORDS.

As logrotate does: the file is renamed, then tidegate gets SIGHUP. Prints one line per check.
"""

import asyncio
import collections
import glob
import json
import os
import signal
import ssl
import sys
import time

from websockets.asyncio.client import connect

from kit import must, run, same

URL, CA, PID, RECORDS = sys.argv[1:]
TLS = ssl.create_default_context(cafile=CA)
ROTATIONS = 8
WORKERS = 12


async def tunnel(tag):
    async with connect(f"{URL}?rotated={tag}", ssl=TLS, compression=None) as socket:
        await socket.send(tag)
        same(await socket.recv(), tag)


async def worker(number, tags, ended):
    while not ended.is_set():
        tag = f"{number}-{len(tags)}"
        tags.append(tag)
        await tunnel(tag)


def recorded():
    found = collections.Counter()
    for path in glob.glob(f"{RECORDS}*"):
        for line in open(path):
            record = json.loads(line)
            _, _, tag = record.get("target", "").partition("?rotated=")
            if record["event"] == "ended" and tag:
                found[tag] += 1
    return found


async def rotates():
    tags, ended = [], asyncio.Event()
    async with connect(f"{URL}?rotated=held", ssl=TLS, compression=None) as held:
        workers = [asyncio.create_task(worker(number, tags, ended)) for number in range(WORKERS)]
        for number in range(ROTATIONS):
            await asyncio.sleep(0.4)
            os.rename(RECORDS, f"{RECORDS}.{number}")
            os.kill(int(PID), signal.SIGHUP)
            deadline = time.monotonic() + 5
            while not os.path.exists(RECORDS):
                must(time.monotonic() < deadline, f"no new file after rotation {number}")
                await asyncio.sleep(0.01)
        ended.set()
        await asyncio.gather(*workers)
        await held.send("still here")
        same(await held.recv(), "still here")
    tags.append("held")
    for _ in range(100):
        if len(recorded()) >= len(tags):
            break
        await asyncio.sleep(0.05)
    found = recorded()
    must(len(tags) > 100, f"{len(tags)} tunnels only")
    missing = [tag for tag in tags if found[tag] == 0]
    doubled = [tag for tag in tags if found[tag] > 1]
    must(not missing and not doubled, f"of {len(tags)}: missing {missing[:5]}, twice {doubled[:5]}")
    filled = [number for number in range(ROTATIONS) if os.path.getsize(f"{RECORDS}.{number}") > 0]
    same(filled, list(range(ROTATIONS)))


CHECKS = [(f"{ROTATIONS} times under traffic, one whole line for each tunnel", rotates)]
sys.exit(1 if asyncio.run(run("rotation", CHECKS, 60)) else 0)
