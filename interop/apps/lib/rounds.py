"""For the clients in Python: the rounds that the run asks for, one line each on standard input."""

import asyncio
import socket
import sys

_getaddrinfo = socket.getaddrinfo


def _resolve(host, *args, **options):
    """The public name of the applications is known to their clients only."""
    return _getaddrinfo("127.0.0.1" if host in ("app.example.com", b"app.example.com") else host, *args, **options)


socket.getaddrinfo = _resolve


async def rounds():
    """Yields the text of each round, and reports it as done when the next one is asked for."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield line.strip()
        print("done", line.strip(), flush=True)
