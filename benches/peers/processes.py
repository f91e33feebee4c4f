"""Processes of a run: pinned to a core, tracked with their children, ended by id."""

import os
import pathlib
import signal
import socket
import subprocess
import time

WAIT_SECONDS = 15


class Failed(Exception):
    """An error that ends the run; the message is one sentence."""


class Process:
    """One program, with its output in files in the work directory."""

    def __init__(self, work, name, command, cores, env=None):
        self.name = name
        self.out, self.err = work / f"{name}.out", work / f"{name}.err"
        with open(self.out, "w") as out, open(self.err, "w") as err:
            self.child = subprocess.Popen(
                # The kernel ends the child when this process ends.
                ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", cores, *map(str, command)],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=work,
                env={**os.environ, **(env or {})},
            )

    def pids(self):
        """Resources of the process and its children: a master and its worker count as one proxy."""
        return family(self.child.pid)

    def until(self, what, look):
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            if self.child.poll() is not None:
                break
            time.sleep(0.05)
        raise Failed(f"{self.name}: no {what}; it says: {self.last_words()}")

    def await_port(self, port):
        def answers():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False

        self.until(f"answer on port {port}", answers)

    def last_words(self):
        said = self.err.read_text(errors="replace") + self.out.read_text(errors="replace")
        return " / ".join(said.strip().splitlines()[-3:]) or "nothing"

    def running(self):
        return self.child.poll() is None

    def stop(self):
        """Sends SIGTERM and, after 5 s, SIGKILL; then kills remaining children."""
        if not self.running():
            return
        below = {pid: stat(pid)[START_TIME] for pid in self.pids()[1:]}
        self.child.terminate()
        try:
            self.child.wait(5)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        for pid, born in below.items():
            # The id may have been reused.
            if stat(pid)[START_TIME] == born:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass


def family(root):
    """The process and all its descendants, itself first."""
    children = {}
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            above = stat(int(folder.name))[PARENT]
            children.setdefault(above, []).append(int(folder.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop(0)
        found.append(pid)
        queue += sorted(children.get(pid, []))
    return found


def stat(pid):
    """The fields of /proc/PID/stat after the name, which may contain any character."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return [None] * 50
    return [int(field) if field.lstrip("-").isdigit() else field
            for field in text.rsplit(")", 1)[1].split()]


PARENT, START_TIME = 1, 19
