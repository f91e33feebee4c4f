"""The report's tables on opening many connections at once, and the targets of these rows."""

import functools
import statistics

import opening
import scenarios
from tables import table

MIB = 2**20
# Time to the last of 9,000 clients, relative to HAProxy.
LAST_MOST = 0.9
# p99 relative to p50, by the number of clients.
TAIL_MOST = {2000: 1.2, 9000: 1.15}
PEAK_MOST_B = 80 * MIB
LIVING_MOST = 3
GOODPUT_LEAST = 0.9


def section(found, names, titles):
    tables = [storm_table(found, names, titles, *row) for row in scenarios.STORMS]
    tables += [living_table(found, names, titles), flood_table(found, names, titles)]
    shown = "\n\n".join(text for text in tables if text)
    if not shown:
        return ""
    return f"""## Many clients at once

Medians of up to {opening.ROUNDS} rounds, each in a fresh process. Times count from the moment at which all clients
start to connect, to the echo or, where connections are closed, to the Close. The clients' side of TLS and the backend
share one core, which is busy most of the time, so compare values within a table. Memory is the largest resident set
size of all processes of a proxy (`VmHWM`), code included.

{shown}"""


def storm_table(found, names, titles, row, tunnels, hold):
    end = "held until all are open" if hold else "each closed after its echo"
    lines = [[f"{tunnels:,} at once, {end}", "TLS library", "last, ms", "p50, ms", "p99, ms", "p99 / p50",
              "CPU, µs each", "peak, MiB", "failed"]]
    for name in names:
        middle = functools.partial(opening.median, found, row, name)
        if middle(lambda answer: 0) is None:
            lines += failed(found, row, name, titles, 8)
            continue
        lines.append([
            titles[name], found["facts"]["tls_libraries"][name],
            *(f"{middle(lambda answer: answer[field]) / 1000:,.0f}" for field in ("last_us", "p50_us", "p99_us")),
            f"{middle(tail):.2f}", f"{middle(lambda answer: answer['cpu_us_per_unit']):,.0f}",
            f"{middle(peak) / MIB:,.1f}", f"{middle(lambda answer: answer['failures']):,.0f}",
        ])
    return table(lines) if len(lines) > 1 else ""


def living_table(found, names, titles):
    lines = [["200 open tunnels, 2,000 echoes of 125 B per second", "p99 alone, ms",
              "p99 while 9,000 connect, ms", "ratio", "last of the 9,000, ms"]]
    for name in names:
        middle = functools.partial(opening.median, found, "living", name)
        if middle(lambda answer: 0) is None:
            lines += failed(found, "living", name, titles, 4)
            continue
        lines.append([titles[name], f"{middle(lambda answer: answer['alone_p99_us']) / 1000:.2f}",
                      f"{middle(lambda answer: answer['p99_us']) / 1000:.2f}",
                      f"{middle(slowdown):.1f}",
                      f"{middle(lambda answer: answer['storm']['last_us']) / 1000:,.0f}"])
    if len(lines) == 1:
        return ""
    return f"""The process that opens the 9,000 has the lowest priority on the load core, so that it does not delay the echoes
itself.

{table(lines)}"""


def flood_table(found, names, titles):
    lines = [["200 connections per second, in time", "alone", "during the flood", "p99 alone, ms", "p99, ms",
              "flood per second", "of capacity", "peak, MiB"]]
    for name in names:
        middle = functools.partial(opening.median, found, "flood", name)
        if middle(lambda answer: 0) is None:
            lines += failed(found, "flood", name, titles, 7)
            continue
        lines.append([
            titles[name], *(f"{100 * middle(lambda answer: answer[field]):.0f} %"
                            for field in ("alone_goodput", "goodput")),
            *(latency(found, name, field) for field in ("alone_p99_us", "p99_us")),
            f"{middle(lambda answer: answer['flood']['units_per_s']):,.0f}", f"{middle(multiple):.1f}",
            f"{middle(peak) / MIB:,.1f}",
        ])
    if len(lines) == 1:
        return ""
    return f"""The flood consists of handshakes that are never completed, from the same address:
{opening.FLOOD_FACTOR} times as many per second as the proxy completes alone, or as many as the load core manages at
the lowest priority. A connection is in time if it is opened, echoed and closed within 5 s.

{table(lines)}"""


def latency(found, name, field):
    """In milliseconds, of the rounds in which a connection succeeded."""
    known = [us for us in opening.values(found, "flood", name, lambda answer: answer[field]) if us is not None]
    return f"{statistics.median(known) / 1000:,.0f}" if known else "-"


def failed(found, row, name, titles, columns):
    """A line for a peer that was measured and failed every time."""
    answers = [seen[name] for seen in found.get(row, []) if name in seen]
    return [[titles[name], f"failed: {answers[0]['failed']}", *[""] * (columns - 1)]] if answers else []


def tail(answer):
    return answer["p99_us"] / answer["p50_us"]


def peak(answer):
    return answer["peak_rss_b"]


def slowdown(answer):
    return answer["p99_us"] / answer["alone_p99_us"]


def last(answer):
    return answer["last_us"]


def share(answer):
    return answer["goodput"] / (answer["alone_goodput"] or 1)


def multiple(answer):
    return answer["flood"]["units_per_s"] / answer["capacity_per_s"]


def shortfalls(found):
    """One sentence for each target that tidegate misses."""
    lines = []
    for row, tunnels, hold in scenarios.STORMS:
        middle = functools.partial(opening.median, found, row, "tidegate")
        title = f"{tunnels:,} clients at once, {'held' if hold else 'closed'}"
        if middle(lambda answer: answer["failures"]):
            lines.append(f"{title}: {middle(lambda answer: answer['failures']):,.0f} failed.")
        if not hold or middle(tail) is None:
            continue
        if middle(tail) > TAIL_MOST[tunnels]:
            lines.append(f"{title}: p99 is {middle(tail):.2f} of p50, target {TAIL_MOST[tunnels]}.")
        if middle(peak) > PEAK_MOST_B:
            lines.append(f"{title}: {middle(peak) / MIB:.0f} MiB at the peak, target {PEAK_MOST_B // MIB}.")
        rival = opening.median(found, row, "haproxy", last)
        ratio = rival and middle(last) / rival
        if tunnels == 9000 and ratio and ratio > LAST_MOST:
            lines.append(f"{title}: the last one after {ratio:.2f} of HAProxy's time, target {LAST_MOST}.")
    ratio = opening.median(found, "living", "tidegate", slowdown)
    if ratio and ratio > LIVING_MOST:
        lines.append(f"Open tunnels while 9,000 clients connect: p99 is {ratio:.1f} times that alone, target "
                     f"{LIVING_MOST}.")
    left = opening.median(found, "flood", "tidegate", share)
    if left is not None and left < GOODPUT_LEAST:
        lines.append(f"Connections during a flood of handshakes: {100 * left:.0f} % of those without it, target "
                     f"{100 * GOODPUT_LEAST:.0f} %.")
    return lines
