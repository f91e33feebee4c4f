"""The aims, and what a run says of them. Ratios within a tenth are ties on shared machines."""

import statistics

import measure

TIE = 0.10
LARGE_BYTES = 16 * 1024
RIVALS = {
    "nginx": ["nginx", "nginx-64k"],
    "HAProxy": ["haproxy", "haproxy-64k"],
    "sozu": ["sozu", "sozu-64k"],
}
IDLE_AIM_B, IDLE_MOST_B = 6000, 6500
KEPT_AIM = 0.10
GROWN_AIM = 0.02


def aim(scenario):
    """The most that tidegate's cost may be of the bare rustls relay's."""
    if scenario.kind == "handshake":
        return 1.15
    return 0.95 if scenario.size >= LARGE_BYTES else 1.05


def against_aim(ratio, most):
    if ratio <= most:
        return "reached"
    over = f"{100 * (ratio / most - 1):.0f} % over"
    return f"tie, {over}" if ratio <= most * (1 + TIE) else f"missed, {over}"


def against_rival(ratio):
    if ratio < 1 - TIE:
        return "ahead"
    return "tie" if ratio <= 1 + TIE else "behind"


def of_scenario(rounds, scenario):
    """{"relay": (spread, aim, verdict), rival: (spread, verdict)}; only what was measured."""
    found = {}
    relay = measure.spread(measure.ratios(rounds, scenario.name, "tidegate", ["relay-tls"]))
    if relay:
        most = aim(scenario)
        found["relay"] = (relay, most, against_aim(relay[0], most))
    for rival, variants in RIVALS.items():
        ratio = measure.spread(measure.ratios(rounds, scenario.name, "tidegate", variants))
        if ratio:
            found[rival] = (ratio, against_rival(ratio[0]))
    return found


def shortfalls(found, paired):
    """Sentences, one for each row in which tidegate is not ahead of all, or misses an aim."""
    lines = []
    for scenario in paired:
        told = of_scenario(found["rounds"], scenario)
        parts = [f"{RATHER[told[rival][1]]} {rival} ({told[rival][0][0]:.2f})"
                 for rival in RIVALS if rival in told and told[rival][1] != "ahead"]
        if "relay" in told and told["relay"][2] != "reached":
            (ratio, _, _), most, verdict = told["relay"]
            parts.append(f"{ratio:.2f} of the bare rustls relay, aim {most:.2f} ({verdict})")
        if parts:
            lines.append(f"{scenario.title}: {'; '.join(parts)}.")
    return lines + resumption(found["rounds"]) + memory(found) + load(found)


RATHER = {"tie": "a tie with", "behind": "behind"}


def resumption(rounds):
    lines = []
    for seen in rounds:
        answer = seen.get("resume", {}).get("tidegate", {})
        if answer.get("full"):
            lines.append(f"{answer['full']} of {answer['full'] + answer['resumed']} handshakes were "
                         "not resumed.")
    return lines


def memory(found):
    lines = []
    for tunnels in (5000, 9000):
        idle = found.get(f"idle-{tunnels}", {})
        answer = idle.get("tidegate", {"failed": None})
        if "failed" in answer:
            continue
        small, large = answer["after_125_b"], answer["after_16k_b"]
        if small > IDLE_AIM_B:
            lines.append(f"{tunnels:,} idle tunnels: {small:,.0f} B each, aim {IDLE_AIM_B:,}, "
                         f"never above {IDLE_MOST_B:,}.")
        if large > small * (1 + GROWN_AIM):
            lines.append(f"{tunnels:,} idle tunnels after 16 KiB messages: "
                         f"{100 * (large / small - 1):.1f} % more than after 125 B, aim 2 %.")
        if answer["kept_share"] >= KEPT_AIM:
            lines.append(f"{tunnels:,} idle tunnels, after all have gone: "
                         f"{100 * answer['kept_share']:.0f} % of the peak kept, aim under 10 %.")
        for field, title in (("after_125_b", "idle memory"), ("after_16k_b", "the same after 16 KiB"),
                             ("kept_share", "share kept after all have gone")):
            less = [rival for rival, variants in RIVALS.items()
                    for variant in variants if idle.get(variant, {}).get(field, 9e9) < answer[field]]
            if less:
                lines.append(f"{tunnels:,} tunnels, {title}: {' and '.join(dict.fromkeys(less))} with less.")
    return lines + growth(found)


def growth(found):
    """From the second to fourth wave to the last three; the first one fills pools."""
    after = found.get("churn", {}).get("tidegate", {}).get("after_wave_b", [])
    if len(after) < 7:
        return []
    ratio = statistics.median(after[-3:]) / statistics.median(after[1:4])
    if ratio <= 1 + TIE:
        return []
    return [f"Ten waves of churn: {100 * (ratio - 1):.0f} % more after the last ones, aim none."]


def load(found):
    """Heartbeats, calls, size and workers."""
    lines = []
    for name, most in (("without", 0.001), ("default", 0.03)):
        share = found.get("heartbeats", {}).get(name, {}).get("idle_cpu_share")
        if share is not None and share >= most:
            lines.append(f"9,000 idle tunnels, {name} heartbeats: {100 * share:.2f} % of a core, aim "
                         f"under {100 * most:g} %.")
    for name, calls in found.get("syscalls", {}).items():
        if calls.get("reads", 0) + calls.get("writes", 0) > 4.05 or calls.get("others", 0) > 0.05:
            lines.append(f"System calls an echo of {name}: {calls['reads']:.2f} reads, "
                         f"{calls['writes']:.2f} writes, {calls['others']:.2f} others; aim 4 and none.")
    for title, ratio, most in size_ratios(found):
        if ratio and ratio[0] > most:
            lines.append(f"{title}: {ratio[0]:.2f}, aim {most}.")
    return lines


def size_ratios(found):
    """(title, spread of the ratio, the most it may be) of what size may cost."""
    told = []
    scale = found.get("scale")
    if scale:
        rows = scale["tunnels"]
        for count in list(rows[0])[1:]:
            first = next(iter(rows[0]))
            pairs = [(row[count]["tidegate"].get("cpu_us_per_unit"),
                      row[first]["tidegate"].get("cpu_us_per_unit")) for row in rows]
            ratio = measure.spread([a / b for a, b in pairs if a and b])
            told.append((f"a message at {int(count):,} tunnels, to {first}", ratio, 1.15))
        for row, most in (("message", 1.05), ("handshake", 1.05)):
            ratio = measure.ratios(scale["large"], row, "tidegate-large", ["tidegate-small"])
            title = f"a {row} with 100 backends, 1,000 routes and 100 certificates, to one of each"
            told.append((title, measure.spread(ratio), most))
    if found.get("workers"):
        for row, most in (("message", 1.05), ("handshake", 1.15)):
            ratio = measure.ratios(found["workers"], row, "tidegate-2", ["relay-tls"])
            title = f"two workers, a {row}, to the bare rustls relay with two threads"
            told.append((title, measure.spread(ratio), most))
    return told
