"""What a row means: figures, the aims, and the tables."""

import peers
from rows import ADDRESSES_MAX, CONNECTION_BYTES, CONNECTIONS_MIN, HOSTILE_PORT, NEIGHBOURS, PORT, QUICK_PORT
from tables import table

TITLES = {"tidegate": "tidegate", "nginx": "nginx", "haproxy": "HAProxy"}
P99_MS_MAX = 10
LOG_RATIO_MAX = 0.2
# Less than this fills no disk, whatever the attacker sends: a few dozen records.
LOG_BYTES_PER_S_MIN = 10_000
WATCHDOG_SECONDS_MAX = 5
# Of the new clients, within two seconds.
SERVED_MIN = 0.95
# By which a row of the short form may miss its aims, because it shares the machine.
TOLERANCE = 3
# The share of the time in which the proxy waited for its core.
WAITED_SHARE_MAX = 0.1
# With less, the CPU time of the attack is noise.
CPU_SHARE_MIN = 0.01


def figures(found, alone, port_offset=0):
    """The figures of a row; `alone` is the row without an attack, or `None` for that row itself. The offset is that of
    the attacked listener."""
    neighbour, probes, attack = found["neighbour"], found["probes"], found["attack"]
    failures = [f"{who}: {part['failed']}" for who, part in
                (("neighbour", neighbour), ("new clients", probes), ("attack", attack)) if "failed" in part]
    if failures:
        return {"failed": "; ".join(failures)}
    share = found["cpu_s"] / found["wall_s"]
    numbers = {name: neighbour[f"{name}_us"] / 1e3 for name in ("p50", "p99", "max")}
    numbers |= {"cpu_share": share, "waited": found["waited_s"] / found["wall_s"],
                "served": probes["served"] / max(1, probes["new_clients"]),
                "gap_s": found["watchdog_gap_s"]}
    if not attack:
        return numbers
    sent = attack["sent_b"] + CONNECTION_BYTES * attack["attempts"]
    above = share - alone["cpu_share"]
    counts = probes["counts"]
    return numbers | {
        "sent_b": sent, "bytes_per_s": sent / found["wall_s"],
        "cpu_ns_per_byte": above * found["wall_s"] * 1e9 / sent if above > CPU_SHARE_MIN else None,
        "log_ratio": found["log_b"] / sent, "log_bytes_per_s": found["log_b"] / found["wall_s"],
        "memory_kib": found["memory_b"] / attack["most_open"] / 1024
        if attack["most_open"] >= CONNECTIONS_MIN else None,
        "opened": attack["units"], "most_open": attack["most_open"],
        "places": max(0, counts[str(PORT + port_offset)] - (0 if port_offset else NEIGHBOURS)),
        "backend_places": counts[str(QUICK_PORT)] + counts[str(HOSTILE_PORT)],
    }


def is_disturbed(numbers):
    """Whether other programs of the machine have used the core of the proxy."""
    return numbers.get("waited", 0) > WAITED_SHARE_MAX


def missed(numbers, attack, alone_p99, settings):
    """One sentence for each aim that the row misses."""
    if "failed" in numbers:
        return [numbers["failed"]]
    scale, found = TOLERANCE if settings.quick else 1, []
    if not is_disturbed(numbers):
        found += missed_times(numbers, alone_p99, settings, scale)
    is_long = numbers["log_ratio"] > scale * LOG_RATIO_MAX and numbers["log_bytes_per_s"] > LOG_BYTES_PER_S_MIN
    if is_long and not attack.served:
        found.append(f"{numbers['log_ratio']:.2f} log bytes per byte")
    most = attack.memory_kib
    if most and numbers["memory_kib"] and numbers["memory_kib"] > scale * most:
        found.append(f"{numbers['memory_kib']:.1f} KiB per connection")
    return found


def missed_times(numbers, alone_p99, settings, scale):
    """The aims that a busy machine can miss."""
    found = []
    above = max(0, numbers["p99"] - alone_p99)
    if above > scale * P99_MS_MAX:
        found.append(f"neighbour p99 {numbers['p99']:.1f} ms, {above:.1f} ms above that without an attack")
    if 1 - numbers["served"] > scale * (1 - SERVED_MIN):
        found.append(f"{numbers['served']:.0%} of the new clients served")
    # The short form is over before the aim could be missed.
    gap = numbers["gap_s"]
    if gap is not None and gap > (settings.seconds if settings.quick else WATCHDOG_SECONDS_MAX):
        found.append(f"{gap:.1f} s between keep-alives")
    return found


# ---- tables ----

HEADINGS = ["attack", "addresses", "kB/s", "CPU ns/B", "CPU", "p50 / p99 / max, ms", "log B/B", "KiB/connection",
            "places: clients / backends", "new clients served", "watchdog gap, s"]


def line(title, addresses, numbers):
    """A row of the table of one proxy."""
    if "failed" in numbers:
        return [title, str(addresses), *["failed"] * (len(HEADINGS) - 2)]
    return [
        title, str(addresses), short(numbers.get("bytes_per_s", 0) / 1e3 if addresses else None),
        short(numbers.get("cpu_ns_per_byte")), f"{numbers['cpu_share']:.0%}".replace("%", " %"),
        " / ".join(short(numbers[name]) for name in ("p50", "p99", "max")) + (" *" if is_disturbed(numbers) else ""),
        ratio(numbers.get("log_ratio")), short(numbers.get("memory_kib")),
        f"{numbers['places']:,} / {numbers['backend_places']:,}" if addresses else "-",
        f"{numbers['served']:.0%}".replace("%", " %"), short(numbers["gap_s"]),
    ]


def short(value):
    """Two significant digits, in plain notation."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def ratio(value):
    return "-" if value is None else f"{value:.3f}" if value < 10 else f"{value:.0f}"


def compared(attacks, found, names):
    """The table of all proxies: found[name][attack, addresses]."""
    fields = [("p99, ms", lambda n: short(n["p99"]) + ("*" if is_disturbed(n) else "")),
              ("CPU ns/B", lambda n: short(n.get("cpu_ns_per_byte"))),
              ("log B/B", lambda n: ratio(n.get("log_ratio"))),
              ("KiB/connection", lambda n: short(n.get("memory_kib"))),
              ("served", lambda n: f"{n['served']:.0%}".replace("%", " %"))]
    rows = [["attack", "addresses", *(heading for heading, _ in fields)]]
    for attack in attacks:
        for addresses in (1, ADDRESSES_MAX):
            seen = [found.get(name, {}).get((attack.name, addresses)) for name in names]
            if any(seen):
                rows.append([attack.title, str(addresses), *(
                    " / ".join("n/a" if n is None else "failed" if "failed" in n else show(n) for n in seen)
                    for _, show in fields)])
    return table(rows)


def markdown(attacks, found, alone, names, settings, facts):
    """The generated part of docs/security.md."""
    first = names[0]
    rows = [HEADINGS, line("none", 0, alone[first])]
    rows += [line(attack.title, addresses, numbers) for attack in attacks
             for addresses in (1, ADDRESSES_MAX)
             if (numbers := found[first].get((attack.name, addresses)))]
    parts = [f"Measured on {facts['date']}, {facts['processor']}, {settings.seconds:g} s a row, "
             f"{'one round' if settings.rounds == 1 else f'the best of up to {settings.rounds} rounds'}. "
             f"An asterisk marks times during which other programs used the same core.",
             table(rows)]
    if len(names) > 1:
        versions = ", ".join(f"{TITLES[name]} ({peers.version(name)})" for name in names)
        parts += [f"The same for {versions}, in this order, each with one worker; p99 without an attack is "
                  + " / ".join(f"{short(alone[name]['p99'])}" for name in names) + " ms:",
                  compared(attacks, found, names)]
    return "\n\n".join(parts)
