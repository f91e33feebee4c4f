"""Starts Pebble, the test server of Let's Encrypt, with names that all lead to this machine."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request

from kit import must

DEADLINE = 90
EAB_KEY = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W")


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


async def until(what, look):
    for _ in range(DEADLINE * 20):
        found = await asyncio.to_thread(look)
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"waited {DEADLINE} s for {what}")


class Pebble:
    """A certificate authority on 127.0.0.1, and a DNS server that answers it."""

    # Requests that were sent again, of those that an order needs once. Pebble does not log why.
    repeated = 0

    def __init__(self, folder, external_account=False, **environment):
        os.makedirs(folder, exist_ok=True)
        self.folder, self.processes = folder, []
        self.directory_port, self.manage, self.dns, self.dns_manage = (free_port() for _ in range(4))
        # Where Pebble validates.
        self.tls_port, self.http_port = free_port(), free_port()
        self.directory = f"https://localhost:{self.directory_port}/dir"
        self.ca = f"{folder}/pebble.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-days", "30", "-subj", "/CN=Pebble", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", f"{folder}/pebble-key.pem", "-out", self.ca],
            check=True, capture_output=True,
        )
        config = {
            "listenAddress": f"127.0.0.1:{self.directory_port}",
            "managementListenAddress": f"127.0.0.1:{self.manage}",
            "certificate": self.ca, "privateKey": f"{folder}/pebble-key.pem",
            "httpPort": self.http_port, "tlsPort": self.tls_port, "ocspResponderURL": "",
            "externalAccountBindingRequired": external_account,
            "externalAccountMACKeys": dict([EAB_KEY]) if external_account else {},
        }
        with open(f"{folder}/pebble.json", "w") as file:
            json.dump({"pebble": config}, file)
        # Rejects every second nonce, and reuses authorizations at random, as it does by default.
        self.environment = {"PEBBLE_WFE_NONCEREJECT": "50", **environment}

    async def start(self):
        self.run("dns", "pebble-challtestsrv", "-dns01", f"127.0.0.1:{self.dns}", "-http01", "",
                 "-https01", "", "-tlsalpn01", "", "-management", f"127.0.0.1:{self.dns_manage}",
                 "-defaultIPv6", "")
        self.run("pebble", "pebble", "-config", f"{self.folder}/pebble.json", "-dnsserver", f"127.0.0.1:{self.dns}")
        self.root = f"{self.folder}/root.pem"
        root = await until("Pebble", lambda: self.get(self.manage, "/roots/0"))
        with open(self.root, "w") as file:
            file.write(root)
        await until("the DNS server", lambda: self.post_dns("clear-txt", {"host": "x."}))
        return self

    def run(self, name, *command):
        log = open(f"{self.folder}/{name}.log", "w")
        environment = {**os.environ, **self.environment}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.processes.append(process)

    def get(self, port, path):
        tls = ssl.create_default_context(cafile=self.ca)
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(f"https://localhost:{port}{path}", context=tls, timeout=5) as response:
                return response.read().decode()
        return None

    def post_dns(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.dns_manage}/{path}", json.dumps(body).encode())
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            with urllib.request.urlopen(request, timeout=5) as response:
                return response.status == 200
        return False

    def log(self):
        with open(f"{self.folder}/pebble.log") as file:
            return file.read()

    def stop(self):
        if os.path.exists(f"{self.folder}/pebble.log"):
            log = self.log()
            for once in ("/order-plz", "/finalize-order/", "/certZ/"):
                Pebble.repeated += max(0, log.count(f"POST {once} ") - log.count("Added order"))
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    async def __aenter__(self):
        try:
            return await self.start()
        except BaseException:
            self.stop()
            raise

    async def __aexit__(self, *_):
        must(self.processes, "Pebble was never started")
        self.stop()
