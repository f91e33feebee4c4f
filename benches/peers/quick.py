"""The part for CI: short, with a verdict that does not depend on the machine's load."""

import alone
import opening
import syscalls
import verdicts

# Two reads and two writes: one of each per direction.
READS_AND_WRITES_MAX = 4.0
# For 500 tunnels, fixed costs included: 8,900 when measured.
IDLE_BYTES_MAX = 10_500
# 0.46 when measured, mostly code; an allocator that returns no memory retains 0.99.
KEPT_SHARE_MAX = 0.7
# Tolerance for a window that starts and ends in the middle of an echo.
SLACK = 0.05


# The rows of which these are smaller variants.
SMALL = {"idle-500": "idle-5000", "storm-hold-500": "storm-hold-2000"}


def steps(bench, running):
    gate = [peer for peer in running if peer.name == "tidegate"]
    return {
        "idle-500": lambda: alone.idle(bench, gate, 500, hold=1),
        "churn": lambda: alone.churn(bench, gate, 2, 200),
        "storm-hold-500": lambda: opening.storm(bench, gate, "storm-hold-500", 500, True),
        "syscalls": lambda: syscalls.syscalls(bench),
    }


def broken(found):
    """One sentence for each failed check."""
    faults = verdicts.keep_alive(found["rounds"])
    for seen in found["rounds"]:
        answer = seen.get("resume", {}).get("tidegate", {})
        if answer and answer.get("full", 0) != 0:
            faults.append(f"{answer['full']} of tidegate's handshakes were not resumed")
    for seen in found.get("storm-hold-500", []):
        failures = seen.get("tidegate", {}).get("failures")
        if failures:
            faults.append(f"{failures} of 500 clients that connected at once failed")
    idle = found.get("idle-500", {}).get("tidegate", {})
    if idle.get("after_125_b", 0) > IDLE_BYTES_MAX:
        faults.append(f"{idle['after_125_b']:.0f} B an idle tunnel")
    if idle.get("kept_share", 0) > KEPT_SHARE_MAX:
        faults.append(f"{idle['kept_share']:.0%} of the peak kept after all tunnels have gone")
    for name, calls in found.get("syscalls", {}).items():
        count = calls.get("reads", 0) + calls.get("writes", 0)
        if count > READS_AND_WRITES_MAX + SLACK:
            faults.append(f"{count:.2f} reads and writes an echo of {name}")
    return faults
