"""Sessions that move from HAProxy and nginx to tidegate: carried.py TIDEGATE FOLDER PROGRAM...

A client gets the cookie of the other proxy, and then meets the same server through tidegate, which knows the server by
`cookie_value`; then through the other proxy again. Prints one line per check, `ok NAME`, `FAIL NAME: why` or
`skipped WHAT: why`.
"""

import hashlib
import http.cookiejar
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request

BIN, FOLDER, *PROGRAMS = sys.argv[1:]
NAMES = ["one", "two", "three"]
processes = []
failed = False

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 10s
    timeout server 10s
listen front
    bind 127.0.0.1:{port}
    balance roundrobin
    cookie SRV insert indirect nocache
{servers}
"""
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    upstream app {{
{servers}
        sticky cookie srv_id path=/;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://app; }}
    }}
}}
"""
TIDEGATE = """
[[listener]]
address = "127.0.0.1:{port}"
tls = false
[[route]]
host = "*"
origins = ["missing"]
pool = "app"
[[pool]]
name = "app"
balance = "round-robin"
backends = [{servers}]
[pool.pin]
cookie = "{cookie}"
key_file = "pin.key"
secure = false
[admin]
enabled = false
[control]
socket = "off"
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def serve(name):
    """A server that answers with its name; returns its port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def start(command, port):
    processes.append(subprocess.Popen(command, cwd=FOLDER))
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{command[0]} does not listen")


def write(name, text):
    path = os.path.join(FOLDER, name)
    with open(path, "w") as file:
        file.write(text)
    return path


def carried(title, cookie, values, other):
    """Clients of another proxy meet their servers through tidegate, and through that proxy again."""
    global failed
    port = free_port()
    listed = ", ".join(
        f'{{ address = "127.0.0.1:{ports[name]}", id = "{name}", cookie_value = "{values[name]}" }}'
        for name in NAMES
    )
    config = write(f"{cookie}.toml", TIDEGATE.format(port=port, servers=listed, cookie=cookie))
    start([BIN, "run", "--config", config], port)
    met, problem = set(), None
    for _ in range(9):
        jar = http.cookiejar.CookieJar()
        client = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        ask = lambda at: client.open(f"http://127.0.0.1:{at}/", timeout=10).read().decode()
        names = [ask(other), ask(port), ask(port), ask(other)]
        met.add(names[0])
        if len(set(names)) != 1:
            problem = f"met {names} with {[(c.name, c.value) for c in jar]}"
    if len(met) < len(NAMES):
        problem = f"only {met} serve"
    failed |= problem is not None
    print(f"FAIL {title}: {problem}" if problem else f"ok {title}", flush=True)


os.makedirs(FOLDER, exist_ok=True)
os.umask(0o077)
write("pin.key", os.urandom(32).hex() + "\n")
ports = {name: serve(name) for name in NAMES}
try:
    if "haproxy" in PROGRAMS:
        at = free_port()
        servers = "\n".join(f"    server {n} 127.0.0.1:{ports[n]} cookie to-{n}" for n in NAMES)
        config = write("haproxy.cfg", HAPROXY.format(port=at, servers=servers))
        start(["haproxy", "-f", config], at)
        carried("sessions of HAProxy go on", "SRV", {n: f"to-{n}" for n in NAMES}, at)
    if "nginx" in PROGRAMS:
        at = free_port()
        servers = "\n".join(f"        server 127.0.0.1:{ports[n]};" for n in NAMES)
        config = write("nginx.conf", NGINX.format(folder=FOLDER, port=at, servers=servers))
        tested = subprocess.run(["nginx", "-t", "-c", config], capture_output=True, text=True)
        if 'unknown directive "sticky"' in tested.stderr:
            print("skipped nginx: this version has no `sticky`", flush=True)
        else:
            start(["nginx", "-c", config], at)
            values = {n: hashlib.md5(f"127.0.0.1:{ports[n]}".encode()).hexdigest() for n in NAMES}
            carried("sessions of nginx go on", "srv_id", values, at)
finally:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait(10)
sys.exit(1 if failed else 0)
