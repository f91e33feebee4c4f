"""The place of a run: its network namespace, its certificates, and what the report says of it."""

import datetime
import os
import pathlib
import platform
import subprocess

import peers
from processes import Failed

SETTINGS = {
    # Pacing, as bbr does it, changes bulk figures by 1.3 to 1.7 times.
    "net/ipv4/tcp_congestion_control": "reno",
    "net/ipv4/ip_local_port_range": "10000 65535",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_max_syn_backlog": "4096",
}


def prepare_network():
    """Only in a namespace that has no device up yet: this is nobody's network."""
    up = subprocess.run(["ip", "-brief", "link", "show", "up"], capture_output=True, text=True)
    if up.stdout.strip():
        raise Failed("main.py is started by benches/peers/run, in a network namespace of its own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in SETTINGS.items():
        (pathlib.Path("/proc/sys") / name).write_text(value)


def certificate(folder, names, stem):
    """ECDSA P-256, self-signed: chain and key in one file each, and both in one for HAProxy."""
    chain, key = folder / f"{stem}chain.pem", folder / f"{stem}key.pem"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "30", "-subj", "/CN=tidegate peers", "-keyout", key, "-out", chain,
         "-addext", f"subjectAltName={alternatives}",
         # Clients of webpki refuse an issuer in the place of a server.
         "-addext", "basicConstraints=critical,CA:FALSE"],
        capture_output=True, text=True,
    )
    if done.returncode != 0:
        raise Failed(f"openssl: {done.stderr.strip()}")
    os.chmod(key, 0o600)
    (folder / f"{stem}both.pem").write_text(chain.read_text() + key.read_text())
    return chain, key


def facts(names):
    """What a reader has to know to compare with figures of their own."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release().split("-")[0],
        "system": system(),
        "congestion_control": SETTINGS["net/ipv4/tcp_congestion_control"],
        "compiler": peers.said("rustc", "--version"),
        "source": source(),
        "versions": {name: peers.version(name) for name in names},
    }


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def system():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.system()


def source():
    """The commit that was measured, and whether the tree was another than it."""
    commit = peers.said("git", "-C", peers.ROOT, "rev-parse", "--short=12", "HEAD")
    if "fatal" in commit:
        return "unknown"
    changed = peers.said("git", "-C", peers.ROOT, "status", "--porcelain", "--", "src", "Cargo.lock")
    return commit + (" with changes" if changed else "")
