"""Tests the answers of docs/from-*.md: answers.py TIDEGATE WORK. See answers_setup.py for how their blocks
are run. Prints one line per block, `ok answers: PAGE#HEADING: WHAT`, `FAIL ...: why` or `skipped ...: why`.
"""

import asyncio
import functools
import pathlib
import shutil
import sys

from answers_checks import CHECKS, OTHERS
from answers_setup import CLIENT, LISTED, PAGES, Gate, blocks
from kit import run

BIN, WORK = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])


async def serves_every_route(gate):
    """Each route answers on each listener that serves it, from the right backend."""
    served = 0
    for listener in gate.written["listener"]:
        if listener.get("proxy_protocol"):
            continue
        for route in gate.written["route"]:
            host = {"*": "localhost"}.get(route["host"], route["host"].replace("*.", "a."))
            path = route.get("path", "/")
            client = LISTED if route.get("allow") else CLIENT
            at, backends = listener["address"], [b if isinstance(b, str) else b["address"] for b in route["backends"]]
            if "redirect" in listener:
                status, headers, _ = await gate.get(at, host, "/a/b?c=d")
                assert (status, headers["location"]) == (308, f"https://{host}/a/b?c=d"), (status, headers)
                continue
            status, headers, body = await gate.get(at, host, path, client)
            if route.get("http", True):
                assert status == 200 and body["backend"] in backends, (status, body)
                assert body["path"] == path and body["headers"]["x-real-ip"] in (client, "::1"), body
            else:
                assert status == 426, status
            secure = "https" if gate.is_tls(at) else "http"
            origin = f"{secure}://{host}" if "same-origin" in route["origins"] else None
            facts = await gate.talk(at, host, path, client=client, origin=origin)
            assert facts["backend"] in backends, facts
            served += 1
    assert served or any("proxy_protocol" in of for of in gate.written["listener"]), "nothing was tried"


async def answers(name, block, base, shells):
    gate = Gate(BIN, WORK / name.replace("#", "-"), block, base)
    try:
        await gate.start()
        await serves_every_route(gate)
        if name in CHECKS:
            await CHECKS[name](gate)
        for shell in shells:
            for command in [line for line in shell.splitlines() if line.startswith("tidegate ")]:
                done = gate.run("bash", "-c", gate.filled(command))
                assert done.returncode == 0, f"{command}: {done.stderr}"
    finally:
        gate.stop()


def cases():
    """What is tested, and how; prints what this machine cannot test."""
    base = next(text for _, language, text, _ in blocks("from-nginx") if language == "toml")
    tested = set()
    for page in PAGES:
        for anchor in dict.fromkeys(anchor for anchor, *_ in blocks(page)):
            here = {}
            for of, language, text, _ in blocks(page):
                if of == anchor:
                    here.setdefault(language, []).append(text)
            name = f"{page}#{anchor}"
            for number, text in enumerate(here.get("toml", []), 1):
                numbered = name if number == 1 else f"{name}-{number}"
                shells = here.get("sh", []) if number == 1 else []
                tested.add(numbered)
                yield f"{numbered}: tidegate", functools.partial(answers, numbered, text, base, shells)
            for what, (program, check) in OTHERS.get(name, {}).items():
                tested.add(name)
                if program and not (shutil.which(program) or pathlib.Path(program).exists()):
                    print(f"skipped answers: {name}: {what}: {program} is not installed")
                    continue
                folder = WORK / f"{page}-{anchor}-{what}".replace(" ", "-")
                yield f"{name}: {what}", functools.partial(check, BIN, folder, here, base)
    for name in CHECKS.keys() | OTHERS.keys():
        assert name in tested, f"{name} has no block"


sys.exit(1 if asyncio.run(run("answers", list(cases()), 60)) else 0)
