"""The pin cookie with the cookie jar of Python: pins.py HTTP_BASE.

Prints one line per check, `ok NAME` or `FAIL NAME: why`.
"""

import http.cookiejar
import sys
import urllib.request

base = sys.argv[1]
failed = False


def report(name, problem):
    global failed
    failed |= bool(problem)
    print(f"FAIL {name}: {problem}" if problem else f"ok {name}", flush=True)


def client():
    """An opener with a jar of its own."""
    jar = http.cookiejar.CookieJar()
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar)), jar


def answers(opener, count):
    """The servers that answer, and the number of cookies that were set."""
    names, cookies = [], 0
    for _ in range(count):
        with opener.open(base + "/page", timeout=10) as response:
            names.append(response.read().decode())
            cookies += len(response.headers.get_all("Set-Cookie") or [])
    return names, cookies


met = set()
for number in range(12):
    opener, jar = client()
    names, cookies = answers(opener, 5)
    met |= set(names)
    if len(set(names)) != 1 or cookies != 1 or len(jar) != 1:
        report("http.cookiejar keeps its server", f"{names}, {cookies} cookies set")
        break
else:
    report("http.cookiejar keeps its server", None)
report("clients of http.cookiejar are spread", met != {"a", "b", "c"} and f"{met}")
names, _ = answers(urllib.request.build_opener(), 6)
report("a client without a jar meets every server", set(names) != {"a", "b", "c"} and f"{names}")
sys.exit(1 if failed else 0)
