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
                       ("echo-125", "125 B ping-pong"), ("handshake", "full handshake to close")):
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

On two cores the load generator and the backend share one, so this is mostly their queue; read it
across, not down.

{table(lines)}"""


def throughput(found, names, rows, titles):
    lines = [["units a second", *(titles[name] for name in names)]]
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

What went through while the load generator and the backend shared the other core: where they are
what is full, it says little of the proxy.

{table(lines)}"""


def idle_table(found, names, titles):
    parts = []
    for tunnels in (5000, 9000):
        idle = found.get(f"idle-{tunnels}")
        if not idle:
            continue
        lines = [[f"{tunnels:,} idle tunnels", "B a tunnel: opened", "after 125 B", "after 16 KiB",
                  "peak, MiB", "kept", "CPU, % of a core"]]
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
    parts += [beats(found), churn(found, names, titles)]
    parts = [part for part in parts if part]
    return "## Memory, and tunnels at rest\n\n" + "\n\n".join(parts) if parts else ""


def beats(found):
    told = found.get("heartbeats")
    if not told:
        return ""
    shares = {name: told[name].get("idle_cpu_share") for name in told}
    shown = {name: "failed" if share is None else f"{100 * share:.3f} %" for name, share in shares.items()}
    return (f"{told['default']['tunnels']:,} idle tunnels take tidegate {shown['without']} of a core without "
            f"heartbeats (aim under 0.1 %)\nand {shown['default']} with the default ones (aim under 3 %).")


def churn(found, names, titles):
    told = found.get("churn")
    if not told:
        return ""
    waves = max(len(answer.get("after_wave_b", [])) for answer in told.values())
    tunnels = next(iter(told.values()))["tunnels"]
    lines = [[f"MiB over the start, 2 s after each wave of {tunnels:,} tunnels that are reset",
              *(str(wave + 1) for wave in range(waves))]]
    for name in names:
        if name in told:
            after = told[name].get("after_wave_b", [])
            cells = [f"{value / 2**20:.1f}" for value in after]
            lines.append([titles[name], *(cells or ["failed"] + [""] * (waves - 1))])
    return table(lines)


def calls_table(found):
    told = found.get("syscalls")
    if not told:
        return ""
    lines = [["tidegate, calls an echo", "reads", "writes", "epoll_wait", "others"]]
    for name, calls in told.items():
        fields = ("reads", "writes", "waits", "others")
        lines.append([name, *(f"{calls[field]:.2f}" if field in calls else "-" for field in fields)])
    return f"""## System calls

By `strace -f -c`, on one tunnel; the aim is 2 reads and 2 writes, and nothing else besides
`epoll_wait`.

{table(lines)}"""


def size_table(found):
    told = [row for row in verdicts.size_ratios(found) if row[1]]
    if not told:
        return ""
    lines = [["tidegate's cost of", "ratio (min-max)", "aim", "verdict"]]
    for title, (middle, least, most), aim in told:
        lines.append([title, f"{middle:.2f} ({least:.2f}-{most:.2f})", f"{aim:.2f}",
                      verdicts.against_aim(middle, aim)])
    return f"## Size, and a second worker\n\n{table(lines)}\n\n{fairness(found)}".rstrip()


def fairness(found):
    """Echoes of the tunnel with the fewest, relative to the one with the most."""
    shares = {}
    for seen in found.get("workers", []):
        for name, answer in seen["message"].items():
            if answer.get("most"):
                shares.setdefault(name, []).append(answer["fewest"] / answer["most"])
    if "tidegate-2" not in shares:
        return ""
    told = "With two workers the tunnel with the fewest echoes had at least "
    told += f"{min(shares['tidegate-2']):.2f} of what the one with the most had"
    if "relay-tls" in shares:
        told += f" (bare rustls relay: {min(shares['relay-tls']):.2f})"
    return told + "."


def spread_table(found, names, rows, titles):
    lines = [["CPU microseconds: median (min-max)", *(titles[name] for name in names)]]
    for row in rows:
        cells = [measure.spread(measure.values(found["rounds"], row.name, name)) for name in names]
        lines.append([row.title, *("{:.4g} ({:.4g}-{:.4g})".format(*cell) if cell else "-"
                                   for cell in cells)])
    return f"## Spread over the rounds\n\n{table(lines)}" if rows else ""
