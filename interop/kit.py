"""Helpers for the Python checks."""

import asyncio
import json
import os

from websockets.exceptions import ConnectionClosed


def same(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {str(got)[:160]!r}, wanted {str(wanted)[:160]!r}")


def must(truth, why):
    if not truth:
        raise AssertionError(why)


async def facts(socket):
    """What the backend reports about the connection."""
    await socket.send("!facts")
    return json.loads(await socket.recv())


async def close_of(socket):
    """Waits for a Close; returns its code and reason."""
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code, socket.close_reason


async def send_all(socket, messages):
    for message in messages:
        await socket.send(message)


def expect(target, **record):
    """Makes records.py check this tunnel's record: `equals`, `between`, `has`."""
    if "INTEROP_EXPECTED" in os.environ:
        with open(os.environ["INTEROP_EXPECTED"], "a") as file:
            file.write(json.dumps({"target": target, **record}) + "\n")


async def run(title, checks, limit=20):
    """Prints one line per check, `ok NAME` or `FAIL NAME: why`; returns the number of failures."""
    failed = 0
    for what, check in checks:
        name = f"{title}: {what}"
        try:
            await asyncio.wait_for(check(), limit)
            print("ok", name, flush=True)
        except Exception as error:  # whatever it is, it is this check's failure
            failed += 1
            why = str(error) or type(error).__name__
            print(f"FAIL {name}: {why}".replace("\n", " "), flush=True)
    return failed
