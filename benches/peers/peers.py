"""The compared programs: how each is started, and its name in the report."""

import os
import pathlib
import re
import shutil
import subprocess

from processes import Failed, Process

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# In the order of the report's columns.
USUAL = ["tidegate", "nginx", "nginx-64k", "haproxy", "haproxy-64k", "sozu", "sozu-64k",
         "relay-tls", "relay-tcp"]
RELAYS = ["relay-tls", "relay-tcp"]
PORTS = {name: 7001 + at for at, name in enumerate(USUAL)}
BACKEND_PORT = 6001


class Peer:
    """A running proxy or relay."""

    def __init__(self, name, port, process):
        self.name, self.port, self.process = name, port, process
        self.plain = name == "relay-tcp"

    def connect(self, work):
        """The arguments that point loadgen to this peer."""
        arguments = ["--connect", f"127.0.0.1:{self.port}"]
        if self.plain:
            arguments.append("--plain")
        else:
            arguments += ["--ca", str(work / "chain.pem"), "--name", "localhost"]
        return arguments + ["--pids", ",".join(map(str, self.process.pids()))]


class Yard:
    """Starts peers; holds the work directory, the backend and the cores."""

    def __init__(self, work, proxy_cores="0", load_cores="1"):
        self.work, self.proxy_cores, self.load_cores = work, proxy_cores, load_cores
        self.started = []

    def start(self, name, command, cores, port):
        process = Process(self.work, name, command, cores)
        self.started.append(process)
        process.await_port(port)
        return process

    def stop_all(self):
        for process in reversed(self.started):
            process.stop()

    def backend(self):
        # Listen on every local address, so that one backend can act as a hundred.
        command = [program("loadgen"), "backend", "--listen", f"0.0.0.0:{BACKEND_PORT}"]
        return self.start("backend", command, self.load_cores, BACKEND_PORT)

    def peer(self, name, cores=None):
        port = PORTS[name]
        command = getattr(self, name.split("-")[0])(name, port)
        process = self.start(name, command, cores or self.proxy_cores, port)
        return Peer(name, port, process)

    def variant(self, name, port, cores=None, **changes):
        """Starts tidegate with another configuration."""
        command = self.tidegate(name, port, **changes)
        return Peer(name, port, self.start(name, command, cores or self.proxy_cores, port))

    def end(self, peer):
        peer.process.stop()
        self.started.remove(peer.process)

    def again(self, peer):
        """Restarts the peer in a fresh process."""
        self.end(peer)
        return self.peer(peer.name)

    # ---- commands ----

    def tidegate(self, name, port, **changes):
        words = {
            "PORT": port, "ADMIN": port + 1000, "WORKERS": 1, "HEARTBEAT": "",
            "BACKENDS": f'"127.0.0.1:{BACKEND_PORT}"',
            "MORE_CERTIFICATES": "", "MORE_ROUTES": "",
        } | changes
        config = self.filled("tidegate.toml", name, words)
        return [tidegate_program(), "run", "--config", config]

    def nginx(self, name, port):
        buffers = "proxy_buffer_size 4k;"
        if name == "nginx-64k":
            buffers = ("proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; "
                       "client_body_buffer_size 64k;")
        words = {"PORT": port, "BUFFERS": buffers}
        return [found("nginx"), "-c", self.filled("nginx.conf", name, words), "-p", self.work]

    def haproxy(self, name, port):
        words = {"PORT": port, "BUFSIZE": 65536 if name == "haproxy-64k" else 16384}
        return [found("haproxy"), "-db", "-f", self.filled("haproxy.cfg", name, words)]

    def sozu(self, name, port):
        words = {"PORT": port, "BUFFER": 65536 if name == "sozu-64k" else 16393}
        return [found("sozu"), "--config", self.filled("sozu.toml", name, words), "start"]

    def relay(self, name, port, workers=1):
        command = [program("bare-relay"), name.removeprefix("relay-")]
        command += ["--backend", f"127.0.0.1:{BACKEND_PORT}", "--listen", f"127.0.0.1:{port}"]
        command += ["--workers", workers]
        if name != "relay-tcp":
            command += ["--chain", self.work / "chain.pem", "--key", self.work / "key.pem"]
        return command

    def filled(self, template, name, words):
        text = (HERE / template).read_text()
        every = {"DIR": self.work, "NAME": name, "BACKEND": f"127.0.0.1:{BACKEND_PORT}"} | words
        for word, value in every.items():
            text = text.replace(f"@{word}@", str(value))
        path = self.work / f"{name}{pathlib.Path(template).suffix}"
        path.write_text(text)
        return path


def program(name):
    return TARGET / "release" / name


def tidegate_program():
    return pathlib.Path(os.environ.get("TIDEGATE_BIN", TARGET / "release" / "tidegate"))


def found(name):
    """The program in $NGINX_BIN or similar, or the installed one."""
    given = os.environ.get(f"{name.upper()}_BIN")
    for path in [given, shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin"),
                 TARGET / "peers" / "bin" / name]:
        if path and os.access(path, os.X_OK):
            return str(path)
    raise Failed(f"{name} is not installed")


def version(name):
    """The version that the program prints, with its TLS library."""
    kind = name.split("-")[0]
    if kind == "relay":
        return "rustls, as tidegate's" if name == "relay-tls" else ""
    if kind == "tidegate":
        return said(tidegate_program(), "--version")
    try:
        path = found(kind)
    except Failed:
        return None
    if kind == "nginx":
        text = said(path, "-V")
        return " ".join(re.findall(r"nginx/\S+", text)[:1] + re.findall(r"running with ([^)]*)\)", text))
    if kind == "haproxy":
        text = said(path, "-vv")
        first = re.findall(r"HAProxy version (\S+)", text)
        return " ".join(first + re.findall(r"Running on (?:OpenSSL|SSL library) version : (.*)", text))
    here = TARGET / "peers" in pathlib.Path(path).parents
    first = said(path, "--version").splitlines()[0].removesuffix("()").strip()
    return first + (", with aws-lc-rs and simd" if here else "")


def said(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=10)
    return (done.stdout + done.stderr).strip()
