"""What the answers of docs/from-*.md promise, beyond that each route works: by page and heading."""

import asyncio
import os
import signal
import ssl
import subprocess

import yaml

from answers_setup import CLIENT, DENIED, LISTED, Gate, free_port
from kit import close_of, must, same

HTTPS, HTTP = "0.0.0.0:443", "0.0.0.0:80"
CHAT = "chat.example.com"


async def hsts(gate):
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Origin": "https://evil.example"}
    for status, headers in [(200, {}), (403, handshake)]:
        found, fields, _ = await gate.get(HTTPS, CHAT, "/", headers=headers)
        same((found, fields["strict-transport-security"]), (status, "max-age=31536000"))


async def redirect(gate):
    status, _, body = await gate.get(HTTP, CHAT, "/.well-known/acme-challenge/x")
    same((status, body["backend"]), (200, "127.0.0.1:9001"))


async def hosts(gate):
    for host, backend in [(CHAT, "9001"), ("a.example.com", "9002"), ("example.net", "9003")]:
        _, _, body = await gate.get(HTTPS, host, "/")
        same(body["backend"], f"127.0.0.1:{backend}")
    try:
        await gate.get(HTTPS, "example.org", "/")
        raise AssertionError("a name without a certificate was served")
    except ssl.SSLError:
        pass


async def rest(gate):
    for path, backend in [("/api?x=1", "3000"), ("/wsx", "3000")]:
        _, _, body = await gate.get(HTTPS, CHAT, path)
        same((body["backend"], body["path"]), (f"127.0.0.1:{backend}", path))
    same((await gate.talk(HTTPS, CHAT, "/ws/room"))["backend"], "127.0.0.1:3001")


async def backends(gate):
    seen = {}
    for last in range(3, 33):
        client = f"127.0.0.{last}"
        facts = await gate.talk(HTTPS, CHAT, "/", client=client)
        _, _, body = await gate.get(HTTPS, CHAT, "/", client)
        same(body["backend"], facts["backend"])
        seen[client] = facts["backend"]
    must(len(set(seen.values())) == 3, f"only {set(seen.values())}")


async def health(gate):
    same((await gate.get(HTTPS, CHAT, "/healthz"))[::2], (200, b"ok\n"))


async def limits(gate):
    async with gate.dial(HTTPS, CHAT, "/", max_size=None) as ws:
        await ws.send("x" * (300 << 10))
        same((await close_of(ws))[0], 1009)


async def maintenance(gate):
    file = gate.folder / "maintenance"
    async with gate.dial(HTTPS, CHAT, "/") as ws:
        for act, status in [(file.touch, 503), (file.unlink, 200)]:
            act()
            await until_status(gate, status)
            await ws.send("still open")
            same(await ws.recv(), "still open")
    gate.ctl("maintenance", "chat", "on")
    status, headers, body = await gate.get(HTTPS, CHAT, "/")
    same((status, body, "retry-after" in headers), (503, b"<p>back soon</p>\n", True))
    gate.ctl("maintenance", "chat", "off")
    same((await gate.get(HTTPS, CHAT, "/"))[0], 200)


async def until_status(gate, status):
    for _ in range(200):
        if (await gate.get(HTTPS, CHAT, "/"))[0] == status:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"the status did not become {status}")


async def allow(gate):
    for client, path, status in [(CLIENT, "/", 200), (CLIENT, "/admin", 403), (LISTED, "/admin", 200), (DENIED, "/", 403)]:
        same((client, path, (await gate.get(HTTPS, CHAT, path, client))[0]), (client, path, status))


async def cloudflare(gate):
    claim = {"CF-Connecting-IP": "203.0.113.7", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"}
    _, _, body = await gate.get(HTTPS, CHAT, "/", LISTED, claim)
    same((body["headers"]["x-real-ip"], body["headers"]["x-forwarded-for"]), ("203.0.113.7", f"203.0.113.7, {LISTED}"))
    _, _, body = await gate.get(HTTPS, CHAT, "/", CLIENT, claim)
    same(body["headers"]["x-real-ip"], CLIENT)


async def behind_alb(gate):
    at = "0.0.0.0:8080"
    same((await gate.get(at, "10.0.1.2", "/healthz", LISTED))[0], 200)
    claim = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}
    facts = await gate.talk(at, CHAT, "/", client=LISTED, additional_headers=claim, origin=f"https://{CHAT}")
    same((facts["headers"]["x-real-ip"], facts["headers"]["x-forwarded-proto"]), ("203.0.113.7", "https"))


async def proxy_protocol(gate):
    before = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n"
    facts = await gate.talk(HTTPS, CHAT, "/", client=LISTED, before=before)
    same(facts["headers"]["x-real-ip"], "203.0.113.7")


async def acme(gate):
    status, _, body = await gate.get(HTTP, CHAT, "/.well-known/acme-challenge/token")
    same((status, body["backend"]), (200, "127.0.0.1:8402"))


async def prometheus(gate):
    status, _, body = await gate.get(("127.0.0.1", gate.admin_port), "127.0.0.1", "/metrics", tls=False)
    must(status == 200 and b"tidegate_tunnels" in body, status)


CHECKS = {
    "from-nginx#hsts": hsts,
    "from-nginx#redirect-from-port-80": redirect,
    "from-nginx#several-hosts": hosts,
    "from-nginx#rest-and-websocket": rest,
    "from-nginx#several-backends": backends,
    "from-nginx#health": health,
    "from-nginx#maintenance": maintenance,
    "from-nginx#allow-and-deny": allow,
    "from-nginx#limits": limits,
    "from-nginx#behind-cloudflare": cloudflare,
    "from-nginx#behind-an-alb": behind_alb,
    "from-nginx#proxy-protocol": proxy_protocol,
    "from-nginx#certbot": acme,
    "from-nginx#prometheus-from-another-host": prometheus,
}


# ---- other programs: (binary, folder, the blocks of the heading by language, the first file) ----

def start_nginx(gate, block, replaced):
    """Starts nginx with a whole file of the docs; listeners, the root and certificates are replaced."""
    for old, new in replaced.items():
        assert old in block, f"{old} is not in the block"
        block = block.replace(old, new)
    path = gate.folder / "nginx.conf"
    path.write_text(gate.filled(block))
    return gate.spawn("nginx", "nginx", "-e", "stderr", "-c", str(path), "-g",
                      f"daemon off; pid {gate.folder}/nginx.pid;")


async def nginx_in_front(binary, folder, here, base):
    gate, port = Gate(binary, folder, here["toml"][0], base), free_port()
    try:
        await gate.start()
        live = f"/etc/letsencrypt/live/{CHAT}"
        nginx = start_nginx(gate, here["nginx"][0], {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            f"{live}/fullchain.pem": str(folder / "made.pem"), f"{live}/privkey.pem": str(folder / "made.key")})
        await gate.until_open("127.0.0.1", port, nginx, "nginx")
        at = ("127.0.0.1", port)
        facts = await gate.talk(at, CHAT, "/ws", origin=f"https://{CHAT}")
        seen = {name: facts["headers"][name] for name in ("x-real-ip", "x-forwarded-for", "x-forwarded-host")}
        same(seen, {"x-real-ip": CLIENT, "x-forwarded-for": f"{CLIENT}, 127.0.0.1", "x-forwarded-host": CHAT})
        _, _, body = await gate.get(at, CHAT, "/page")
        same((body["headers"]["x-real-ip"], body["headers"]["x-forwarded-proto"]), (CLIENT, "https"))
    finally:
        gate.stop()


async def nginx_behind(binary, folder, here, base):
    gate = Gate(binary, folder, here["toml"][0], base)
    try:
        await gate.prepare()
        port = free_port()
        # nginx takes the place of this backend.
        text = (folder / "proxy.toml").read_text().replace(gate.places["127.0.0.1:8080"], f"127.0.0.1:{port}")
        (folder / "proxy.toml").write_text(text)
        gate.places["127.0.0.1:8080"] = f"127.0.0.1:{port}"
        (folder / "srv").mkdir()
        (folder / "srv" / "index.html").write_text("the page\n")
        (folder / "srv" / "a.css").write_text("p { color: red }\n" * 999)
        nginx = start_nginx(gate, here["nginx"][0], {"/srv/chat": str(folder / "srv")})
        await gate.until_open("127.0.0.1", port, nginx, "nginx")
        served = gate.spawn("tidegate", binary, "run", "--config", str(folder / "proxy.toml"))
        await gate.until_open(*gate.listeners[HTTPS], served, "tidegate")
        same((await gate.get(HTTPS, CHAT, "/deep/link"))[::2], (200, b"the page\n"))
        _, headers, _ = await gate.get(HTTPS, CHAT, "/a.css", headers={"Accept-Encoding": "gzip"})
        same(headers.get("content-encoding"), "gzip")
        same((await gate.talk(HTTPS, CHAT, "/ws"))["backend"], "127.0.0.1:9001")
    finally:
        gate.stop()


async def nginx_stream(binary, folder, here, base):
    gate, port = Gate(binary, folder, here["toml"][0], base), free_port()
    try:
        await gate.start()
        nginx = start_nginx(gate, here["nginx"][0], {
            "proxy_pass 127.0.0.1:443;": "proxy_pass {}:{};".format(*gate.listeners[HTTPS]),
            "listen 8443;": f"listen 127.0.0.1:{port};"})
        await gate.until_open("127.0.0.1", port, nginx, "nginx")
        facts = await gate.talk(("127.0.0.1", port), CHAT, "/")
        same(facts["headers"]["x-real-ip"], CLIENT)
    finally:
        gate.stop()


async def haproxy_accepts(_binary, folder, here, _base):
    folder.mkdir(parents=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=a", "-keyout",
                    folder / "a.key", "-out", folder / "a.crt"], check=True, capture_output=True)
    (folder / "a.pem").write_text((folder / "a.crt").read_text() + (folder / "a.key").read_text())
    text = here["haproxy"][0].replace(f"/etc/haproxy/certs/{CHAT}.pem", str(folder / "a.pem"))
    (folder / "haproxy.cfg").write_text(text)
    done = subprocess.run(["haproxy", "-c", "-f", folder / "haproxy.cfg"], capture_output=True, text=True)
    same((done.returncode, "WARNING" in done.stdout + done.stderr), (0, False))


async def promtool_accepts(_binary, folder, here, _base):
    folder.mkdir(parents=True)
    (folder / "prometheus.yml").write_text(here["yaml"][0])
    done = subprocess.run(["promtool", "check", "config", folder / "prometheus.yml"], capture_output=True, text=True)
    same((done.returncode, done.stderr), (0, ""))


async def logrotate_rotates(binary, folder, here, base):
    gate = Gate(binary, folder, here["toml"][0], base)
    try:
        await gate.start()
        await gate.talk(HTTPS, CHAT, "/before")
        text = gate.filled(here["logrotate"][0]).replace("systemctl reload tidegate", f"kill -HUP {gate.gate.pid}")
        (folder / "logrotate.conf").write_text(text)
        os.chmod(folder / "logrotate.conf", 0o644)
        os.chmod(folder, 0o755)
        done = gate.run("logrotate", "--force", "--state", folder / "state", folder / "logrotate.conf")
        same((done.returncode, done.stderr), (0, ""))
        await gate.talk(HTTPS, CHAT, "/after")
        await recorded(folder / "access.log", "/after")
        must('"/before"' in (folder / "access.log.1").read_text(), "the old record is gone")
    finally:
        gate.stop()


async def recorded(path, target):
    for _ in range(200):
        if path.exists() and f'"target":"{target}"' in path.read_text():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} has no record of {target}")


async def cloudflare_script(binary, folder, here, base):
    """The script, with a curl that returns a list, then nothing, then fails."""
    gate = Gate(binary, folder, here["toml"][0], base)
    [script] = [text for text in here["sh"] if text.startswith("#!/bin/sh")]
    await gate.prepare()
    (folder / "update").write_text(script)
    (folder / "list").write_text("192.0.2.0/24\n")
    curl = folder / "bin" / "curl"
    curl.write_text(f"#!/bin/sh\n[ -f {folder}/list ] || exit 22\nshift 3\ncp {folder}/list \"$2\"\n")
    curl.chmod(0o755)
    done = gate.run("sh", "update")
    same((done.returncode, done.stderr), (0, ""))
    must("cloudflare-v4.txt: 1 address" in done.stdout, done.stdout)
    same((folder / "cloudflare-v6.txt").read_text(), "192.0.2.0/24\n")
    for broken in ["", "<html>\n", None]:
        if broken is None:
            (folder / "list").unlink()
        else:
            (folder / "list").write_text(broken)
        must(gate.run("sh", "update").returncode != 0, f"it accepted {broken!r}")
        same((folder / "cloudflare-v4.txt").read_text(), "192.0.2.0/24\n")
    gate.stop()


async def joined_files(binary, folder, here, base):
    gate = Gate(binary, folder, base, base)
    await gate.prepare()
    text = (folder / "proxy.toml").read_text()
    (folder / "conf.d").mkdir()
    at = text.index("[[route]]")
    (folder / "conf.d" / "10-base.toml").write_text(text[:at])
    (folder / "conf.d" / "20-chat.toml").write_text(text[at:].replace(CHAT, "$APP_HOST"))
    gate.env |= {"APP_HOST": CHAT}
    done = gate.run("bash", "-e", "-c", here["sh"][0])
    same((done.returncode, (folder / "proxy.toml").read_text()), (0, text))
    gate.stop()


# ---- manifests ----

def seconds(text):
    return int(text.removesuffix("s"))


async def compose_fits(_binary, _folder, here, _base):
    services = yaml.safe_load(here["yaml"][0])["services"]
    [text] = here["toml"]
    [app] = [name for name in services if name != "tidegate"]
    must(f'backends = ["{app}:' in text, f"no backend is the service {app}")
    must(seconds(services["tidegate"]["stop_grace_period"]) > 30, "shorter than drain.deadline")
    published = {port.split(":")[1] for port in services["tidegate"]["ports"]}
    same(published, {port for port in ("80", "443") if f'0.0.0.0:{port}"' in text})


async def manifests_run(binary, folder, here, base):
    """The configuration in the ConfigMap works, and the manifests fit it."""
    objects = {(of["kind"], of["metadata"]["name"]): of for of in yaml.safe_load_all(here["yaml"][0])}
    text = objects["ConfigMap", "tidegate"]["data"]["proxy.toml"]
    pod = objects["Deployment", "tidegate"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    gate = Gate(binary, folder, f"# proxy.toml\n{text}", base)
    drain = gate.written["drain"]
    needed = seconds(drain["delay"]) + seconds(drain["deadline"])
    must(pod["spec"]["terminationGracePeriodSeconds"] > needed, f"less than {needed} s")
    ports = {of["name"]: of["containerPort"] for of in container["ports"]}
    [listener] = gate.written["listener"]
    same(ports, {"https": int(listener["address"].split(":")[1]), "admin": int(gate.written["admin"]["address"].split(":")[1])})
    same(objects["Service", "tidegate"]["spec"]["ports"][0]["targetPort"], "https")
    same(objects["Service", "tidegate"]["spec"]["selector"], pod["metadata"]["labels"])
    [backend] = gate.written["route"][0]["backends"]
    must(("Service", backend.split(":")[0]) in objects, f"no Service {backend}")
    mounts = {of["mountPath"] for of in container["volumeMounts"]}
    same(mounts, {"/config", "/certs", "/run/tidegate"})
    try:
        await gate.start()
        await gate.talk(listener["address"], CHAT, "/", origin=f"https://{CHAT}")
        for probe in ("readinessProbe", "livenessProbe"):
            of = container[probe]["httpGet"]
            same(of["port"], "admin")
            same((await gate.get(("127.0.0.1", gate.admin_port), "10.1.2.3", of["path"], tls=False))[0], 200)
        gate.gate.send_signal(signal.SIGTERM)
        for _ in range(200):
            if (await gate.get(("127.0.0.1", gate.admin_port), "10.1.2.3", "/readyz", tls=False))[0] == 503:
                break
            await asyncio.sleep(0.05)
        else:
            raise AssertionError("/readyz stays 200 after SIGTERM")
        await gate.talk(listener["address"], CHAT, "/", origin=f"https://{CHAT}")
    finally:
        gate.stop()


async def yaml_is_valid(_binary, _folder, here, _base):
    must("services" in yaml.safe_load(here["yaml"][0]), "no services")


# In Debian's libnginx-mod-stream.
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

OTHERS = {
    "from-nginx#behind-another-nginx": {"nginx": ("nginx", nginx_in_front)},
    "from-nginx#nginx-behind-tidegate": {"nginx": ("nginx", nginx_behind)},
    "from-nginx#proxy-protocol": {"nginx": (STREAM_MODULE, nginx_stream)},
    "from-nginx#prometheus-from-another-host": {"promtool": ("promtool", promtool_accepts)},
    "from-nginx#log-rotation": {"logrotate": ("logrotate", logrotate_rotates)},
    "from-nginx#behind-cloudflare": {"the script": (None, cloudflare_script)},
    "from-nginx#docker-compose": {"the manifest": (None, compose_fits)},
    "from-nginx#kubernetes": {"the manifests": (None, manifests_run)},
    "from-nginx#what-there-is-not-and-what-to-use-instead": {"the script": ("envsubst", joined_files)},
    "from-haproxy#from-haproxy": {"haproxy": ("haproxy", haproxy_accepts)},
    "from-traefik#from-traefik": {"yaml": (None, yaml_is_valid)},
}
