"""A process that opens one connection after the other during an attack, each for one request, as new clients do,
and counts the sockets of the proxy. Prints what it saw as JSON."""

import json
import pathlib
import socket
import ssl
import sys
import threading
import time

INTERVAL_SECONDS = 0.25
# A new client that has no response after this time has not been served.
PATIENCE_SECONDS = 2
COUNT_INTERVAL_SECONDS = 1
ESTABLISHED = "01"


def established(ports):
    """Number of connections to each local port."""
    rows = [line.split()[1:4] for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = [int(local.rsplit(":")[1], 16) for local, _, state in rows if state == ESTABLISHED]
    return {port: found.count(port) for port in ports}


class NewClients:
    def __init__(self, port, chain, request):
        self.port, self.request = port, request
        self.context = ssl.create_default_context(cafile=chain) if chain else None
        self.times, self.failures = [], []

    def one(self):
        start = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_SECONDS) as raw:
                stream = self.context.wrap_socket(raw, server_hostname="localhost") if self.context else raw
                stream.settimeout(PATIENCE_SECONDS)
                stream.sendall(self.request)
                answer = stream.recv(1 << 10)
            if not answer.startswith(b"HTTP/1.1 200"):
                raise OSError(answer.split(b"\r\n")[0].decode(errors="replace") or "closed")
            taken = time.monotonic() - start
            if taken > PATIENCE_SECONDS:
                raise OSError("too late")
            self.times.append(taken)
        except OSError as why:
            self.failures.append(str(why))


def main(wanted):
    clients = NewClients(wanted["port"], wanted["chain"], wanted["request"].encode())
    end, threads, counts, counted = time.monotonic() + wanted["seconds"], [], [], 0
    while time.monotonic() < end:
        threads.append(threading.Thread(target=clients.one))
        threads[-1].start()
        if time.monotonic() - counted > COUNT_INTERVAL_SECONDS:
            counted = time.monotonic()
            counts.append(established(wanted["count"]))
        time.sleep(INTERVAL_SECONDS)
    counts.append(established(wanted["count"]))
    for thread in threads:
        thread.join()
    times = sorted(clients.times)
    print(json.dumps({
        "new_clients": len(threads), "served": len(times), "counts": counts[-1],
        "p50_ms": times[len(times) // 2] * 1e3 if times else None, "failures": clients.failures[:3],
    }))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
