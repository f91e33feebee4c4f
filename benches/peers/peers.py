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
RECORDING_PORTS = {name: 7021 + at for at, name in enumerate(USUAL)}
CLASSIC, HYBRID = "X25519", "X25519MLKEM768"
BACKEND_PORT = 6001


class Peer:
    """A running proxy or relay."""

    def __init__(self, name, port, process, hybrid=False):
        self.name, self.port, self.process = name, port, process
        self.plain = name == "relay-tcp"
        # Whether its TLS library has X25519MLKEM768.
        self.hybrid = hybrid
        # The same program with records to /dev/null, if it is needed and the program can.
        self.recording = None

    def serving(self, scenario):
        """The process for a scenario, or `None` if this peer does not support it."""
        if self.name in scenario.without or scenario.needs == "hybrid" and not self.hybrid:
            return None
        return self.recording if scenario.needs == "records" else self

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
        # Peers whose TLS library has X25519MLKEM768.
        self.hybrid = {"tidegate", "sozu", "sozu-64k", "relay-tls"}

    def start(self, name, command, cores, port, env=None):
        process = Process(self.work, name, command, cores, env)
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
        return Peer(name, port, process, name in self.hybrid)

    def recording(self, name):
        """A second process of a proxy, with records to /dev/null; `None` for the relays."""
        if name in RELAYS:
            return None
        port = RECORDING_PORTS[name]
        command = getattr(self, name.split("-")[0])(f"{name}-records", port)
        command = ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *command]
        return Peer(name, port, self.start(f"{name}-records", command, self.proxy_cores, port))

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

    def nginx(self, name, port, **changes):
        buffers = "proxy_buffer_size 4k;"
        if "64k" in name:
            buffers = ("proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k; "
                       "client_body_buffer_size 64k;")
        words = {"PORT": port, "BUFFERS": buffers, "RECORDS": "/dev/null" if records(name) else "off",
                 "MORE_ROUTES": ""} | changes
        program = found("nginx")
        config = self.with_groups([program, "-t", "-p", self.work, "-c"], "nginx.conf", name, words)
        return [program, "-c", config, "-p", self.work]

    def haproxy(self, name, port, **changes):
        words = {"PORT": port, "BUFSIZE": 65536 if "64k" in name else 16384, "MORE_ROUTES": "", "MORE_BACKENDS": ""}
        words |= {"TARGET": "log stdout format raw local0" if records(name) else "",
                  "RECORDS": "log global\n    option httplog" if records(name) else ""}
        words |= changes
        program = found("haproxy")
        return [program, "-db", "-f", self.with_groups([program, "-c", "-f"], "haproxy.cfg", name, words)]

    def sozu(self, name, port):
        # Records are written at this level, together with a few other messages.
        words = {"PORT": port, "BUFFER": 65536 if "64k" in name else 16393,
                 "LEVEL": "info" if records(name) else "error"}
        return [found("sozu"), "--config", self.filled("sozu.toml", name, words), "start"]

    def relay(self, name, port, workers=1):
        command = [program("bare-relay"), name.removeprefix("relay-")]
        command += ["--backend", f"127.0.0.1:{BACKEND_PORT}", "--listen", f"127.0.0.1:{port}"]
        command += ["--workers", workers]
        if name != "relay-tcp":
            command += ["--chain", self.work / "chain.pem", "--key", self.work / "key.pem"]
        return command

    def with_groups(self, check, template, name, words):
        """The configuration with both key exchange groups, or without the hybrid if the program rejects it."""
        for groups in (f"{HYBRID}:{CLASSIC}", CLASSIC):
            config = self.filled(template, name, words | {"GROUPS": groups})
            if subprocess.run([*map(str, check), config], capture_output=True).returncode == 0:
                break
        if HYBRID in groups:
            self.hybrid.add(name)
        return config

    def filled(self, template, name, words):
        text = (HERE / template).read_text()
        every = {"DIR": self.work, "NAME": name, "BACKEND": f"127.0.0.1:{BACKEND_PORT}"} | words
        for word, value in every.items():
            text = text.replace(f"@{word}@", str(value))
        path = self.work / f"{name}{pathlib.Path(template).suffix}"
        path.write_text(text)
        return path


def records(name):
    return name.endswith("-records")


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


def tls_library(name):
    """The TLS library that the program runs with, as it names it, without its date."""
    kind = name.split("-")[0]
    if name == "relay-tcp":
        return "none"
    if kind in ("tidegate", "relay"):
        return ", ".join(re.findall(r"rustls [^,)]+|aws-lc-rs [^,)]+", said(tidegate_program(), "--version")))
    if kind == "sozu":
        return "rustls, aws-lc-rs" if TARGET / "peers" in pathlib.Path(found(kind)).parents else "rustls"
    text = said(found(kind), "-V" if kind == "nginx" else "-vv")
    names = (re.findall(r"running with ([^)\n]*)", text) or re.findall(r"built with (.*)", text)
             or re.findall(r"Running on (?:OpenSSL|SSL library) version : (.*)", text))
    return re.sub(r" \d{1,2} [A-Z][a-z]{2} \d{4}.*", "", names[0]) if names else "unknown"


def said(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=10)
    return (done.stdout + done.stderr).strip()
