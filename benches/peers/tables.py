"""The report's smaller tables."""

import measure
import verdicts


def table(lines):
    head, *rest = lines
    out = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(out + ["| " + " | ".join(line) + " |" for line in rest])


def latency_table(found, names, titles):
    lines = [["p50 / p99 / p99.9, microseconds", *(titles[name] for name in names)]]
    for row, title in (("open-loop", "125 B at a fixed rate, from the intended time"),
                       ("broadcast", "broadcast, to each delivery"),
                       ("echo-125", "125 B ping-pong"), ("handshake", "full handshake to close"),
                       ("http-get-1024", "plain GET, 1 KiB"),
                       ("http-poll-1024", "Socket.IO polling request, 1 KiB")):
        cells = []
        for name in names:
            points = [measure.spread(measure.values(found["rounds"], row, name, field))
                      for field in ("p50_us", "p99_us", "p999_us")]
            cells.append(" / ".join(f"{point[0]:,.0f}" for point in points) if all(points) else "-")
        if set(cells) != {"-"}:
            lines.append([title, *cells])
    if len(lines) == 1:
        return ""
    return f"""## Latency

The load generator and the backend share one core, so most of the latency is their queueing delay.
Compare values within a row, not between rows.

{table(lines)}"""


def throughput(found, names, rows, titles):
    lines = [["units per second", *(titles[name] for name in names)]]
    for row in rows:
        if row.name in ("open-loop", "broadcast"):
            continue
        cells = [measure.spread(measure.values(found["rounds"], row.name, name, "units_per_s"))
                 for name in names]
        if any(cells):
            lines.append([row.title, *(f"{cell[0]:,.0f}" if cell else "-" for cell in cells)])
    if len(lines) == 1:
        return ""
    return f"""## Throughput

The load generator and the backend share the other core. Where that core is saturated, the throughput
says little about the proxy.

{table(lines)}"""


def idle_table(found, names, titles):
    parts = []
    for tunnels in (5000, 9000):
        idle = found.get(f"idle-{tunnels}")
        if not idle:
            continue
        lines = [[f"{tunnels:,} idle tunnels", "B per tunnel: opened", "after 125 B", "after 16 KiB",
                  "peak, MiB", "retained", "CPU, % of a core"]]
        for name in names:
            answer = idle.get(name)
            if not answer:
                continue
            if "failed" in answer:
                lines.append([titles[name], f"failed: {answer['failed']}", *[""] * 5])
                continue
            lines.append([
                titles[name],
                *(f"{answer[field]:,.0f}" for field in ("idle_b", "after_125_b", "after_16k_b")),
                f"{answer['peak_b'] / 2**20:.1f}", f"{100 * answer['kept_share']:.0f} %",
                f"{100 * answer['idle_cpu_share']:.3f}",
            ])
        parts.append(table(lines))
    parts += [heartbeats(found), churn(found, names, titles)]
    parts = [part for part in parts if part]
    return "## Memory and idle tunnels\n\n" + "\n\n".join(parts) if parts else ""


def heartbeats(found):
    results = found.get("heartbeats")
    if not results:
        return ""
    shares = {name: results[name].get("idle_cpu_share") for name in results}
    shown = {name: "failed" if share is None else f"{100 * share:.3f} %" for name, share in shares.items()}
    return (f"{results['default']['tunnels']:,} idle tunnels use {shown['without']} of a core in tidegate without "
            f"heartbeats (target: under 0.1 %)\nand {shown['default']} with the default heartbeats (target: under 1 %).")


def churn(found, names, titles):
    results = found.get("churn")
    if not results:
        return ""
    waves = max(len(answer.get("after_wave_b", [])) for answer in results.values())
    tunnels = next(iter(results.values()))["tunnels"]
    lines = [[f"MiB above the start, 2 s after each wave of {tunnels:,} tunnels that are reset",
              *(str(wave + 1) for wave in range(waves))]]
    for name in names:
        if name in results:
            after = results[name].get("after_wave_b", [])
            cells = [f"{value / 2**20:.1f}" for value in after]
            lines.append([titles[name], *(cells or ["failed"] + [""] * (waves - 1))])
    return table(lines)


def calls_table(found):
    results = found.get("syscalls")
    if not results:
        return ""
    lines = [["tidegate, calls per echo", "reads", "writes", "epoll_wait", "others"]]
    for name, calls in results.items():
        fields = ("reads", "writes", "waits", "others")
        lines.append([name, *(f"{calls[field]:.2f}" if field in calls else "-" for field in fields)])
    return f"""## System calls

Counted with `strace -f -c` on one tunnel. The target is 2 reads and 2 writes, and no other call except
`epoll_wait`.

{table(lines)}"""


def size_table(found):
    results = [row for row in verdicts.size_ratios(found) if row[1]]
    if not results:
        return ""
    lines = [["tidegate's cost of", "ratio (min-max)", "target", "verdict"]]
    for title, (middle, least, most), aim in results:
        lines.append([title, f"{middle:.2f} ({least:.2f}-{most:.2f})", f"{aim:.2f}",
                      verdicts.against_target(middle, aim)])
    return f"## Scaling and a second worker\n\n{table(lines)}\n\n{fairness(found)}".rstrip()


def fairness(found):
    """The fewest echoes of any tunnel, relative to the most of any tunnel."""
    shares = {}
    for seen in found.get("workers", []):
        for name, answer in seen["message"].items():
            if answer.get("most"):
                shares.setdefault(name, []).append(answer["fewest"] / answer["most"])
    if "tidegate-2" not in shares:
        return ""
    text = "With two workers, the tunnel with the fewest echoes had at least "
    text += f"{min(shares['tidegate-2']):.2f} times as many as the one with the most"
    if "relay-tls" in shares:
        text += f" (minimal rustls relay: {min(shares['relay-tls']):.2f})"
    return text + "."


def spread_table(found, names, rows, titles):
    lines = [["CPU microseconds: median (min-max)", *(titles[name] for name in names)]]
    for row in rows:
        cells = [measure.spread(measure.values(found["rounds"], row.name, name)) for name in names]
        lines.append([row.title, *("{:.4g} ({:.4g}-{:.4g})".format(*cell) if cell else "-"
                                   for cell in cells)])
    return f"## Spread across rounds\n\n{table(lines)}" if rows else ""
