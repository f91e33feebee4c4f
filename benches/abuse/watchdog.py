"""Receives keep-alives as the service manager does (sd_notify(3)), and measures the gaps between them."""

import socket
import threading
import time

# The program sends a keep-alive in each third of this time. Shorter than in the unit, for more of them.
TIMEOUT_SECONDS = 1.5


class Watchdog:
    def __init__(self, work):
        self.path = work / "notify.sock"
        self.path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.times = []
        threading.Thread(target=self.receive, daemon=True).start()

    def environment(self):
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": str(int(TIMEOUT_SECONDS * 1e6))}

    def receive(self):
        while True:
            data = self.socket.recv(4096)
            if b"WATCHDOG=1" in data:
                self.times.append(time.monotonic())

    def longest_gap(self, start, end):
        """In seconds, of the gaps that overlap the period; the last one may be open."""
        times = [*self.times, end]
        gaps = [after - before for before, after in zip(times, times[1:]) if after > start and before < end]
        return max(gaps, default=None)
