"""The environment of a run: network namespace, certificates, and the facts in the report."""

import datetime
import os
import pathlib
import platform
import subprocess

import peers
from processes import Failed

SETTINGS = {
    # Pacing (bbr) changes bulk results by a factor of 1.3 to 1.7.
    "net/ipv4/tcp_congestion_control": "reno",
    "net/ipv4/ip_local_port_range": "10000 65535",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/core/somaxconn": "4096",
    "net/ipv4/tcp_max_syn_backlog": "4096",
}


def prepare_network():
    """Refuses to run in a namespace with an active device, which would be the host network."""
    up = subprocess.run(["ip", "-brief", "link", "show", "up"], capture_output=True, text=True)
    if up.stdout.strip():
        raise Failed("start the script run instead of main.py; it creates a private network namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, value in SETTINGS.items():
        (pathlib.Path("/proc/sys") / name).write_text(value)


ECDSA = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def certificate(folder, names, stem, key_type=ECDSA):
    """Self-signed: chain and key in one file each, and both in one for HAProxy."""
    chain, key = folder / f"{stem}chain.pem", folder / f"{stem}key.pem"
    alternatives = ",".join(f"DNS:{name}" for name in names)
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *key_type,
         "-nodes", "-days", "30", "-subj", "/CN=tidegate peers", "-keyout", key, "-out", chain,
         "-addext", f"subjectAltName={alternatives}",
         # webpki rejects a CA certificate as a server certificate.
         "-addext", "basicConstraints=critical,CA:FALSE"],
        capture_output=True, text=True,
    )
    if done.returncode != 0:
        raise Failed(f"openssl: {done.stderr.strip()}")
    os.chmod(key, 0o600)
    (folder / f"{stem}both.pem").write_text(chain.read_text() + key.read_text())
    return chain, key


def facts(names):
    """Facts that a reader needs to compare the results with their own."""
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
        "tls_libraries": {name: peers.tls_library(name) for name in names},
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
    """The measured commit, and whether the working tree differs from it."""
    commit = peers.said("git", "-C", peers.ROOT, "rev-parse", "--short=12", "HEAD")
    if "fatal" in commit:
        return "unknown"
    changed = peers.said("git", "-C", peers.ROOT, "status", "--porcelain", "--", "src", "Cargo.lock")
    return commit + (" with changes" if changed else "")
