"""Targets, and the verdict of a run on each. Ratios within a tenth are ties, as machines are shared."""

import statistics

import measure
import scenarios

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
# What a target is relative to.
RELAY = "the minimal rustls relay"
# For plain HTTP, which the relays do not parse.
PLAIN_REFERENCE, PLAIN_MOST = "nginx", 1.00
# Share of the plain HTTP requests that may open a connection to the backend, apart from one for each
# connection of the load generator.
OPENED_MOST = 0.01


def target(scenario):
    """What tidegate's cost is relative to, and the highest allowed ratio."""
    if scenario.kind == "http":
        return PLAIN_REFERENCE, PLAIN_MOST
    if scenario.kind == "handshake":
        return RELAY, 1.15
    return RELAY, 0.95 if scenario.size >= LARGE_BYTES else 1.05


def against_target(ratio, most):
    if ratio <= most:
        return "reached"
    over = f"{100 * (ratio / most - 1):.0f} % over"
    return f"tie, {over}" if ratio <= most * (1 + TIE) else f"missed, {over}"


def against_rival(ratio):
    if ratio < 1 - TIE:
        return "better"
    return "tie" if ratio <= 1 + TIE else "worse"


def of_scenario(rounds, scenario):
    """{"target": (spread, target, verdict), rival: (spread, verdict)}, for measured pairs only."""
    found = {}
    reference, most = target(scenario)
    variants = RIVALS.get(reference, ["relay-tls"])
    ratio = measure.spread(measure.ratios(rounds, scenario.name, "tidegate", variants))
    if ratio:
        found["target"] = (ratio, most, against_target(ratio[0], most))
    for rival, variants in RIVALS.items():
        ratio = measure.spread(measure.ratios(rounds, scenario.name, "tidegate", variants))
        if ratio:
            found[rival] = (ratio, against_rival(ratio[0]))
    return found


def shortfalls(found, paired):
    """One sentence for each row in which tidegate is not better than all or misses a target."""
    lines = []
    for scenario in paired:
        ratios, reference = of_scenario(found["rounds"], scenario), target(scenario)[0]
        parts = [f"{RELATION[ratios[rival][1]]} {rival} ({ratios[rival][0][0]:.2f})"
                 for rival in RIVALS
                 if rival in ratios and rival != reference and ratios[rival][1] != "better"]
        if "target" in ratios and ratios["target"][2] != "reached":
            (ratio, _, _), most, verdict = ratios["target"]
            parts.append(f"{ratio:.2f} of {reference}, target {most:.2f} ({verdict})")
        if parts:
            lines.append(f"{scenario.title}: {'; '.join(parts)}.")
    rounds = found["rounds"]
    return lines + resumption(rounds) + keep_alive(rounds) + memory(found) + load(found)


RELATION = {"tie": "a tie with", "worse": "worse than"}


def resumption(rounds):
    lines = []
    for seen in rounds:
        answer = seen.get("resume", {}).get("tidegate", {})
        if answer.get("full"):
            lines.append(f"{answer['full']} of {answer['full'] + answer['resumed']} handshakes were "
                         "not resumed.")
    return lines


def keep_alive(rounds):
    """One sentence for each row in which tidegate does not reuse its connections to the backend."""
    lines = []
    for scenario in scenarios.plain():
        answers = [seen.get(scenario.name, {}).get("tidegate", {}) for seen in rounds]
        requests = sum(answer.get("requests", 0) for answer in answers)
        opened = sum(answer.get("backend_connections_opened", 0) for answer in answers)
        # The warm-up may have needed fewer connections at once.
        allowed = sum(answer.get("connections", 0) for answer in answers) + OPENED_MOST * requests
        if opened > allowed:
            lines.append(f"{scenario.title}: {opened:,} of {requests:,} requests opened a connection to the "
                         f"backend, at most {allowed:,.0f} expected.")
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
            lines.append(f"{tunnels:,} idle tunnels: {small:,.0f} B each, target {IDLE_AIM_B:,}, "
                         f"maximum {IDLE_MOST_B:,}.")
        if large > small * (1 + GROWN_AIM):
            lines.append(f"{tunnels:,} idle tunnels after 16 KiB messages: "
                         f"{100 * (large / small - 1):.1f} % more than after 125 B, target 2 %.")
        if answer["kept_share"] >= KEPT_AIM:
            lines.append(f"{tunnels:,} idle tunnels, after all have closed: "
                         f"{100 * answer['kept_share']:.0f} % of the peak retained, target under 10 %.")
        for field, title in (("after_125_b", "idle memory"), ("after_16k_b", "the same after 16 KiB"),
                             ("kept_share", "share retained after all have closed")):
            less = [rival for rival, variants in RIVALS.items()
                    for variant in variants if idle.get(variant, {}).get(field, 9e9) < answer[field]]
            if less:
                lines.append(f"{tunnels:,} tunnels, {title}: less in {' and '.join(dict.fromkeys(less))}.")
    return lines + growth(found)


def growth(found):
    """Compares the last three waves with the second to fourth; the first wave fills pools."""
    after = found.get("churn", {}).get("tidegate", {}).get("after_wave_b", [])
    if len(after) < 7:
        return []
    ratio = statistics.median(after[-3:]) / statistics.median(after[1:4])
    if ratio <= 1 + TIE:
        return []
    return [f"Ten waves of churn: {100 * (ratio - 1):.0f} % more memory after the last waves, target none."]


def load(found):
    """Heartbeats, system calls, scaling and workers."""
    lines = []
    for name, most in (("without", 0.001), ("default", 0.01)):
        share = found.get("heartbeats", {}).get(name, {}).get("idle_cpu_share")
        if share is not None and share >= most:
            lines.append(f"9,000 idle tunnels, {name} heartbeats: {100 * share:.2f} % of a core, target "
                         f"under {100 * most:g} %.")
    for name, calls in found.get("syscalls", {}).items():
        if calls.get("reads", 0) + calls.get("writes", 0) > 4.05 or calls.get("others", 0) > 0.05:
            lines.append(f"System calls per echo of {name}: {calls['reads']:.2f} reads, "
                         f"{calls['writes']:.2f} writes, {calls['others']:.2f} others; target 4 and none.")
    for title, ratio, most in size_ratios(found):
        if ratio and ratio[0] > most:
            lines.append(f"{title}: {ratio[0]:.2f}, target {most}.")
    return lines


def size_ratios(found):
    """(title, spread of the ratio, its allowed maximum) for each scaling measurement."""
    ratios = []
    scale = found.get("scale")
    if scale:
        rows = scale["tunnels"]
        for count in list(rows[0])[1:]:
            first = next(iter(rows[0]))
            pairs = [(row[count]["tidegate"].get("cpu_us_per_unit"),
                      row[first]["tidegate"].get("cpu_us_per_unit")) for row in rows]
            ratio = measure.spread([a / b for a, b in pairs if a and b])
            ratios.append((f"a message at {int(count):,} tunnels, relative to {first}", ratio, 1.15))
        for row, most in (("message", 1.05), ("handshake", 1.05)):
            ratio = measure.ratios(scale["large"], row, "tidegate-large", ["tidegate-small"])
            title = f"a {row} with 100 backends, 1,000 routes and 100 certificates, relative to one of each"
            ratios.append((title, measure.spread(ratio), most))
    if found.get("workers"):
        for row, most in (("message", 1.05), ("handshake", 1.15)):
            ratio = measure.ratios(found["workers"], row, "tidegate-2", ["relay-tls"])
            title = f"two workers, a {row}, relative to the minimal rustls relay with two threads"
            ratios.append((title, measure.spread(ratio), most))
    return ratios
