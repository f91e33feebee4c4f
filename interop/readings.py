"""How servers read request targets: readings.py TIDEGATE WORK

Starts the servers that are installed, asks each for its reading of many targets, and asks tidegate, with the routes /
and /admin, for the route of the same targets. A target that any server reads as a path in /admin must not be forwarded
by the route /. WORK/readings.txt gets a table: target, server, reading. Prints one line per server, `ok NAME` or `FAIL
NAME: why`, and `skipped NAME: why`.

    readings.py serve NAME    one of the Python servers; prints `listening PORT`
"""

import http.client
import http.server
import importlib.util
import itertools
import json
import pathlib
import posixpath
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
SECRET = "/admin"

# A target is one of each: what precedes the name, the name, what follows it.
BEFORE = [
    "/", "//", "///", "//x/", "//x:80/", "//u@x/", "///x/", "////x/", "/x/../", "/x/..//", "/x/..;/", "/x/..;y/",
    "/x/%2e%2e/", "/x/.%2E/", "/x/..%2f", "/x%2f..%2f", "/x/..%5c", "/x%5c..%5c", "/x/%252e%252e/", "/x/..%252f",
    "/./", "/.;/", "/;/", "/;x/", "/%2f", "/%2fx/", "/%5c", "/%5cx/", "/%5c%5cx/", "/..%2f", "/x/%c0%ae%c0%ae/",
    "/x/..%c0%af", "/x/%u002e%u002e/", "/x/..%uff0f", "/x/..%ef%bc%8f", "/%20/", "/x/..%20/", "/%00/", "/a/..//x/",
]
NAMES = ["admin", "%61dmin", "%2561dmin", "%u0061dmin"]
AFTER = ["", "/y", "/.", "/..", "//..", "%2fy", "%5cy", ";y", ";/..", "%3fy", "%23y", "%00y", "%20", "%0a", "./y",
         "%2f..", "%252f..", "?y"]


def targets():
    return [before + name + after for before, name, after in itertools.product(BEFORE, NAMES, AFTER)]


def is_secret(path):
    return path == SECRET or path.startswith(SECRET + "/")


# ---- the servers in Python ----


def attempt(read):
    try:
        return read()
    except ValueError:
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        raw = self.requestline.split(" ")[1]
        split = attempt(lambda: urllib.parse.urlsplit(self.path).path)
        body = json.dumps({
            "http.server, self.path": self.path,
            "urlsplit(self.path)": split,
            "urlsplit(target)": attempt(lambda: urllib.parse.urlsplit(raw).path),
            "unquote(urlsplit(target))": attempt(lambda: urllib.parse.unquote(urllib.parse.urlsplit(raw).path)),
            "urljoin(base, target)": attempt(
                lambda: urllib.parse.urlsplit(urllib.parse.urljoin("http://localhost", raw)).path),
            "normpath(unquote(target))": posixpath.normpath(urllib.parse.unquote(raw.split("?")[0])),
        }).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"scope path": scope["path"]}).encode()})


def wsgi(environ, start_response):
    readings = {"PATH_INFO": environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")}
    if importlib.util.find_spec("django"):
        import django.conf
        import django.core.handlers.wsgi
        if not django.conf.settings.configured:
            django.conf.settings.configure()
        readings["Django, path_info"] = django.core.handlers.wsgi.WSGIRequest(environ).path_info
    start_response("200 OK", [])
    return [json.dumps(readings).encode()]


def serve_aiohttp(port):
    import aiohttp.web

    async def answer(request):
        return aiohttp.web.json_response({"request.path": request.path, "raw_path": request.raw_path.split("?")[0]})

    app = aiohttp.web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    aiohttp.web.run_app(app, host="127.0.0.1", port=port, print=None)


def serve_tornado(port):
    import asyncio
    import tornado.web

    class Answer(tornado.web.RequestHandler):
        def get(self):
            self.write({"request.path": self.request.path})

    async def main():
        tornado.web.Application([(".*", Answer)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_twisted(port):
    from twisted.internet import reactor
    from twisted.web import resource, server

    class Answer(resource.Resource):
        isLeaf = True

        def render_GET(self, request):
            segments = b"/".join(request.postpath).decode("utf-8", "replace")
            return json.dumps({"postpath": "/" + segments, "path": request.path.decode("latin-1")}).encode()

    reactor.listenTCP(port, server.Site(Answer()), interface="127.0.0.1")
    reactor.run()


def serve_cheroot(port):
    import cheroot.wsgi
    cheroot.wsgi.Server(("127.0.0.1", port), wsgi).start()


def serve_uvicorn(port):
    import uvicorn
    uvicorn.run(asgi, host="127.0.0.1", port=port, log_level="critical")


def serve_werkzeug(port):
    import werkzeug.serving
    werkzeug.serving.run_simple("127.0.0.1", port, wsgi, threaded=True)


def serve_http_server(port):
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- asking ----


def answer(port, target):
    """Status, header fields and body of the answer to this target, which is sent as it is."""
    with socket.create_connection(("127.0.0.1", port), 10) as stream:
        stream.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(stream)
        try:
            response.begin()
            return response.status, response.headers, response.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, {}, b""


def readings_of(port, target):
    status, _, body = answer(port, target)
    try:
        return {how: path for how, path in json.loads(body).items() if path} if status == 200 else {}
    except ValueError:
        return {}


def servers():
    """Name and command of each server; no command if something is missing."""
    yield "http.server", [*PYTHON, "http_server", "{port}"]
    for module in ["aiohttp", "tornado", "twisted", "cheroot", "uvicorn", "werkzeug"]:
        yield module, [*PYTHON, module, "{port}"] if importlib.util.find_spec(module) else None
    yield "Node.js", ["node", str(HERE / "readings.cjs"), "{port}"] if shutil.which("node") else None
    yield "Java", ["java", str(HERE / "Readings.java"), "{port}"] if shutil.which("javac") else None
    yield "PHP", ["php", "-S", "127.0.0.1:{port}", str(HERE / "readings.php")] if shutil.which("php") else None


def until_open(port, process):
    """Waits until a process accepts connections."""
    for _ in range(300):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"{process.args[0]} did not start")


def start(name, command, work):
    """Starts a server; returns its process and port."""
    port = free_port()
    log = open(work / f"readings-{name}.log", "w")
    process = subprocess.Popen([word.format(port=port) for word in command], stdout=log, stderr=log, cwd=work)
    until_open(port, process)
    return process, port


def tidegate(program, backend, work):
    """The command that runs tidegate with the two routes."""
    route = f'host = "*"\norigins = ["*"]\nbackends = ["127.0.0.1:{backend}"]\n'
    mark = '[route.response_headers]\nset = ["X-Route: {}"]\n'
    port = free_port()
    (work / "readings.toml").write_text(
        f'[[listener]]\naddress = "127.0.0.1:{port}"\ntls = false\n[admin]\nenabled = false\n'
        f'[control]\nsocket = "off"\n[access]\nto = "readings.access"\n'
        f'[[route]]\nname = "open"\n{route}{mark.format("open")}'
        f'[[route]]\nname = "admin"\npath = "{SECRET}"\n{route}{mark.format("admin")}')
    return [program, "run", "--config", "readings.toml"], port


def main():
    program, work = sys.argv[1], pathlib.Path(sys.argv[2])
    asked, processes, failed = targets(), [], False
    table = open(work / "readings.txt", "w")
    try:
        backend, port = start("backend", [*PYTHON, "http_server", "{port}"], work)
        processes.append(backend)
        command, port = tidegate(program, port, work)
        process = subprocess.Popen(command, cwd=work, stderr=open(work / "readings-tidegate.log", "w"))
        processes.append(process)
        until_open(port, process)
        answers = {target: answer(port, target) for target in asked}
        forwarded = {target for target, (_, fields, _) in answers.items() if fields.get("X-Route") == "open"}
        for name, command in servers():
            if command is None:
                print(f"skipped readings of {name}: it is not installed")
                continue
            process, port = start(name, command, work)
            processes.append(process)
            wrong, read = [], 0
            for target in asked:
                for how, path in readings_of(port, target).items():
                    if is_secret(path):
                        read += 1
                        print(f"{target}\t{name}\t{how}\t{path!r}", file=table)
                        if target in forwarded:
                            wrong.append(f"{target} ({how}: {path!r})")
            if wrong or not read:
                failed = True
                print(f"FAIL readings of {name}: {len(wrong)} of {read}: {wrong[:3]}")
            else:
                print(f"ok readings of {name}: {read} of paths in {SECRET}, none forwarded as another")
    finally:
        for process in processes:
            process.kill()
    sys.exit(failed)


PYTHON = [sys.executable, str(pathlib.Path(__file__).resolve()), "serve"]

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        globals()[f"serve_{sys.argv[2]}"](int(sys.argv[3]))
    else:
        main()
