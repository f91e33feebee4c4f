"""Writes the report (Markdown) and the raw results (JSON)."""

import json
import os

import http2
import measure
import opening_tables
import peers
import scenarios
import verdicts
from tables import calls_table, idle_table, latency_table, size_table, spread_table, table, throughput

TITLES = {
    "tidegate": "tidegate", "nginx": "nginx",
    "nginx-64k": "nginx, 64 KiB buffers", "haproxy": "HAProxy",
    "haproxy-64k": "HAProxy, 64 KiB buffers", "sozu": "sozu",
    "sozu-64k": "sozu, 64 KiB buffers",
    "relay-tls": "minimal rustls relay", "relay-tcp": "minimal TCP relay",
}


def write(out, found):
    """Writes both files atomically; `out` has the folder of each."""
    for path, content in ((out["report"] / "peers.md", markdown(found)),
                          (out["results"] / "results.json", compact(found) + "\n")):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(content)
        os.replace(draft, path)
        print(f"wrote {path}", flush=True)


def compact(value, indent=""):
    """JSON with one measurement per line: a container of plain values is never broken."""
    parts = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(value, (dict, list)) or not any(map(has_rows, parts)):
        return json.dumps(value, separators=(",", ":"))
    inner = indent + " "
    lines = [inner + compact(part, inner) for part in parts]
    if isinstance(value, dict):
        lines = [f"{inner}{json.dumps(name)}: {compact(part, inner)}" for name, part in value.items()]
    first, last = "{}" if isinstance(value, dict) else "[]"
    return f"{first}\n" + ",\n".join(lines) + f"\n{indent}{last}"


def has_rows(value):
    """Whether this is an object, or a list of objects or lists."""
    return isinstance(value, dict) or isinstance(value, list) and any(
        isinstance(part, (dict, list)) for part in value)


def markdown(found):
    names = [name for name in peers.USUAL if name in found["facts"]["versions"]]
    rows = [row for row in scenarios.paired() if any(row.name in seen for seen in found["rounds"])]
    parts = [
        introduction(found), main_table(found, names, rows), shortfalls(found, rows),
        ratios(found, rows), latency_table(found, names, TITLES), throughput(found, names, rows, TITLES),
        opening_tables.section(found, names, TITLES), idle_table(found, names, TITLES), http2.table(found), calls_table(found), size_table(found),
        spread_table(found, names, rows, TITLES), method(found, names),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def introduction(found):
    settings, facts = found["settings"], found["facts"]
    return f"""# Comparison with other proxies

CPU time and memory for WebSockets and plain HTTP over TLS through tidegate, nginx, HAProxy and sozu, each
tuned for them and limited to one worker on one core. Two minimal relays show the lower bound. `benches/peers/run` generates this page and repeats the measurements on any machine.

CPU time of the proxy's processes (user and system) in microseconds per unit of work; lower is better.
Medians of {settings["rounds"]} interleaved rounds, {facts["date"]}, {facts["processor"]}; the lowest value of the
proxies is in bold."""


def main_table(found, names, rows):
    libraries = found["facts"]["tls_libraries"]
    lines = [["", *(TITLES[name] for name in names)],
             ["TLS library", *(libraries[name] for name in names)],
             ["writes records", *("yes" if name == "tidegate" else "no" for name in names)]]
    for row in rows:
        cells = [measure.spread(measure.values(found["rounds"], row.name, name)) for name in names]
        shown = [number(cell[0]) if cell else missing(found, row, name)
                 for cell, name in zip(cells, names)]
        lines.append([row.title, *bold(shown, [cell and cell[0] for cell in cells], names)])
    for tunnels in (5000, 9000):
        idle = found.get(f"idle-{tunnels}")
        if not idle:
            continue
        # A quick run has fewer.
        lines.append([f"idle memory, B per tunnel, {tunnels:,} tunnels",
                      *idle_cells(idle, names, "after_125_b")])
        lines.append(["the same after a 16 KiB message", *idle_cells(idle, names, "after_16k_b")])
        lines.append(["retained 5 s after all have closed", *idle_cells(idle, names, "kept_share")])
    return table(lines)


def idle_cells(idle, names, field):
    found = [idle.get(name, {}).get(field) for name in names]
    form = "{:.0%}".format if field == "kept_share" else "{:,.0f}".format
    shown = ["-" if value is None else form(value).replace("%", " %") for value in found]
    return bold(shown, found, names)


def bold(shown, found, names):
    """Marks the lowest value of the proxies; the relays do not count."""
    known = [value for value, name in zip(found, names) if value is not None and name not in peers.RELAYS]
    return [f"**{text}**" if value is not None and name not in peers.RELAYS and value == min(known)
            else text for text, value, name in zip(shown, found, names)]


def missing(found, row, name):
    answers = [seen.get(row.name, {}).get(name) for seen in found["rounds"]]
    answers = [answer for answer in answers if answer]
    if not answers:
        return "n/a" if row.needs else "-"
    why = str(answers[0].get("failed", ""))
    return "did not resume" if row.name == "resume" and "resum" in why else "failed"


def number(value):
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def shortfalls(found, rows):
    lines = verdicts.shortfalls(found, rows) + opening_tables.shortfalls(found)
    if not lines:
        return "tidegate is better in every row and reaches every target."
    return "## Where tidegate is not better or misses its target\n\n" + "\n".join(f"- {line}" for line in lines)


def ratios(found, rows):
    tables = [ratio_table(found, [row for row in rows if verdicts.target(row)[0] == reference], reference)
              for reference in (verdicts.RELAY, verdicts.PLAIN_REFERENCE)]
    shown = "\n\n".join(text for text in tables if text)
    if not shown:
        return ""
    return f"""## Ratios

Computed within each round; the median of the rounds is shown. A difference of up to 10 % from a target
or from another proxy counts as a tie, because the machine is shared. Each round uses the better variant
of nginx, HAProxy and sozu.

{shown}"""


def ratio_table(found, rows, reference):
    rivals = [name for name in verdicts.RIVALS if name != reference]
    lines = [["tidegate's cost, relative to", f"{reference.removeprefix('the ')} (min-max)", "target", "verdict",
              *rivals]]
    for row in rows:
        found_ratios = verdicts.of_scenario(found["rounds"], row)
        if not found_ratios:
            continue
        cells = ["-", "-", "-"]
        if "target" in found_ratios:
            (middle, least, most), aim, verdict = found_ratios["target"]
            cells = [f"{middle:.2f} ({least:.2f}-{most:.2f})", f"{aim:.2f}", verdict]
        lines.append([row.title, *cells, *(rival(found_ratios.get(name)) for name in rivals)])
    return table(lines) if len(lines) > 1 else ""


def rival(ratio):
    return f"{ratio[0][0]:.2f} {ratio[1]}" if ratio else "-"


def notes(found):
    """Failures in the paired rounds, and measurements that were repeated."""
    failed = sorted({f"{row} through {TITLES[peer]} ({answer['failed']})" for seen in found["rounds"]
                     for row, answers in seen.items() for peer, answer in answers.items()
                     if "failed" in answer})
    lines = [f"- Failed at least once: {text}." for text in failed]
    if found["repeated"]:
        lines.append("- Repeated because the machine was stalled during the measurement: "
                     + ", ".join(found["repeated"]) + ".")
    return "\n".join(lines) + "\n" if lines else ""


def groups(found):
    """The key exchange groups that were negotiated, and the proxies whose TLS library has no hybrid."""
    negotiated = {}
    for seen in found["rounds"]:
        for row in ("handshake", "hybrid"):
            for name, answer in seen.get(row, {}).items():
                if answer.get("group"):
                    negotiated.setdefault(answer["group"], {})[TITLES[name]] = None
    parts = [f"{group} with {', '.join(names)}" for group, names in negotiated.items()]
    return f"Negotiated: {'; '.join(parts)}; n/a is a TLS library without the group." if parts else ""


def absent(skipped):
    return [f"- {TITLES[name]}: not in this run ({why})" for name, why in skipped.items()]


def method(found, names):
    facts, settings = found["facts"], found["settings"]
    versions = [f"- {TITLES[name]}: {facts['versions'][name]}" for name in names
                if facts["versions"][name] and not name.endswith("-64k")]
    newline = "\n"
    return f"""## Method

- Machine: {facts["processor"]}, {facts["cores"]} cores, {facts["memory_gib"]} GiB; {facts["system"]}, Linux
  {facts["kernel"]}; {facts["compiler"]}; tidegate at commit {facts["source"]}.
- The proxy runs with one worker on core 0, load generator and backend on core 1; all traffic uses the
  loopback of a private network namespace, congestion control {facts["congestion_control"]}.
- All use TLS 1.3, TLS13_AES_128_GCM_SHA256, an ECDSA P-256 certificate and TCP_NODELAY. The client offers one
  key exchange group, X25519 except where a row says otherwise. {groups(found)}
- {settings["rounds"]} rounds of {settings["seconds"]:g} s for each row and proxy. In each round, a row
  is measured for all proxies before the next row, and the order rotates by one. Idle memory is measured
  once per proxy, in a fresh process.
- CPU time is the total of all processes and threads of a proxy, from the scheduler's nanosecond
  counters; memory is the increase of their proportional set size (PSS) since the start.
- Plain HTTP: requests in a closed loop on kept-alive connections, 64 for bodies of 1 KiB and one for bodies of
  100 MiB. A Socket.IO polling request is a GET that returns 1 KiB or a POST of 1 KiB, in turn, with the query
  and the header fields of a browser; no GET waits for a message. The backend keeps its connections open, and
  nginx, HAProxy and tidegate reuse them. The relays have one connection to the backend for each client connection.
- Every echoed byte and every byte of a body is verified. Each run first checks that a relay which corrupts bytes is detected.
{notes(found)}
Versions:

{newline.join(versions + absent(facts["skipped"]))}

The TLS library decides most of a handshake's cost. In an earlier comparison, not repeated here, TLS-bound work
cost 1.2 to 2 times as much in Debian's builds of nginx and HAProxy, with OpenSSL 3.0, as in nginx 1.31 and HAProxy
3.4 built with AWS-LC. `$NGINX_BIN` and `$HAPROXY_BIN` select other builds.

Settings (see `benches/peers/*.conf`, `.cfg` and `.toml` for the reasons):

- tidegate: all default policies, the default log and a record for each tunnel and each plain request; only
  the limits per client are raised, because all clients have the same address.
- The row with records to `/dev/null` is measured with a second process of each proxy: tidegate as above, nginx with
  `access_log`, HAProxy with `log stdout` and `option httplog`, sozu with the log level `info`.
- nginx: no access log, `multi_accept`, one ticket, no session cache (it made resumed handshakes more
  expensive), timeouts of one hour, `keepalive 64` to the backend, request bodies passed on as they arrive, no
  temporary files; `proxy_buffer_size` 4k (the default and smallest) or 64k.
- HAProxy: no log, `nbthread 1`, tickets and no session cache, `timeout tunnel 1h`, `http-reuse always`;
  `tune.bufsize` 16384 (the default) or 65536.
- sozu: one worker, log level `error`, no cluster metrics, one ticket, timeouts of one hour;
  `buffer_size` 16393 (the default) or 65536; the supervising process is included.
- The minimal relays (`tools/bare_relay`): one thread, epoll, reads of 64 KiB; they do not parse HTTP or
  WebSockets, and connect to the backend as soon as a client connects.

`benches/peers/results.json` contains every measurement of every round."""
