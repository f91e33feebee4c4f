"""Runs the load generator for one scenario and one peer after the other."""

import json
import statistics
import subprocess
import sys
import time

import peers
from processes import Failed

# Far longer than any scenario takes; a hang counts as a failure and does not end the run.
LIMIT_SECONDS = 30


class Bench:
    """A run: its processes, settings and failures."""

    def __init__(self, yard, settings):
        self.yard, self.settings = yard, settings
        self.failures, self.repeated = [], []

    def load(self, peer, command, *rest, **options):
        """The result of loadgen, or `{"failed": why}`; a stalled run has no result."""
        answer = self.once(peer, command, *rest, **options)
        if STANDSTILL in str(answer.get("failed")):
            self.repeated.append(f"{' '.join(map(str, command))} through {peer.name}")
            answer = self.once(peer, command, *rest, **options)
        return answer

    def once(self, peer, command, seconds=None, warmup=None, limit=LIMIT_SECONDS):
        command = ["taskset", "-c", self.yard.load_cores, peers.program("loadgen"), *command]
        command += peer.connect(self.yard.work)
        if seconds is not None:
            command += ["--seconds", seconds]
            command += ["--warmup", self.settings.warmup if warmup is None else warmup]
        command = list(map(str, command))
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {limit} s"}
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            last = done.stderr.strip().splitlines()[-1:]
            return {"failed": last[0] if last else f"exit code {done.returncode}"}
        if done.returncode != 0 and "failed" not in answer:
            answer["failed"] = done.stderr.strip() or f"exit code {done.returncode}"
        return answer

    def note(self, scenario, peer, answer):
        """A failure of tidegate or a relay fails the run; a failure of another peer is a result."""
        if "failed" in answer:
            why = f"{scenario} through {peer}: {answer['failed']}"
            print(f"FAILED {why}", file=sys.stderr, flush=True)
            if peer.startswith("tidegate") or peer in peers.RELAYS:
                self.failures.append(why)
        return answer

    def rounds(self, scenarios, running):
        """Runs paired and interleaved rounds: in each round, each scenario is measured for all peers
        in turn, and the order rotates by one."""
        seen = []
        for number in range(self.settings.rounds):
            seen.append({})
            for at, scenario in enumerate(scenarios):
                turn = (number + at) % len(running)
                results = seen[-1][scenario.name] = {}
                for peer in running[turn:] + running[:turn]:
                    target = peer.serving(scenario)
                    if not target:
                        continue
                    answer = self.load(target, scenario.command, self.settings.seconds)
                    results[peer.name] = self.note(scenario.name, peer.name, answer)
                    # Wait until the last closes have been processed.
                    time.sleep(0.05)
                say(f"round {number + 1}/{self.settings.rounds}", scenario.name, results)
        return seen

    def corruption_is_caught(self):
        """Checks that the load generator detects corrupted bytes; otherwise the results mean nothing."""
        command = self.yard.relay("relay-tcp", CORRUPT_PORT) + ["--corrupt", "30011"]
        process = self.yard.start("relay-corrupt", command, self.yard.proxy_cores, CORRUPT_PORT)
        liar = peers.Peer("relay-tcp", CORRUPT_PORT, process)
        for command in (["echo", "--size", 1024, "--inflight", 1, "--tunnels", 1],
                     ["echo", "--size", 65536, "--inflight", 4, "--tunnels", 4],
                     ["bulk", "--direction", "down", "--size", 65536, "--tunnels", 1],
                     ["http", "--method", "get", "--size", 1048576, "--connections", 1]):
            answer = self.load(liar, command, seconds=1, limit=20)
            if "wrong byte" not in str(answer.get("failed")):
                raise Failed(f"a relay that breaks bytes was not noticed by {command}: {answer}")
            print(f"corruption is caught: {answer['failed']}", flush=True)
        process.stop()


CORRUPT_PORT = 7051
# loadgen's message if a shared machine took away a core for the entire measurement. The measurement is
# repeated once, and the report says so.
STANDSTILL = "no unit completed during the measurement"


def say(where, scenario, results):
    figures = "  ".join(f"{name} {figure(answer)}" for name, answer in results.items())
    print(f"{where}  {scenario}: {figures}", flush=True)


def figure(answer):
    value = answer.get("cpu_us_per_unit")
    return "failed" if "failed" in answer else "-" if value is None else f"{value:.4g}"


def values(rounds, scenario, peer, field="cpu_us_per_unit"):
    """The value of each round that has one."""
    found = [seen.get(scenario, {}).get(peer, {}).get(field) for seen in rounds]
    return [value for value in found if value is not None]


def ratios(rounds, scenario, peer, others, field="cpu_us_per_unit"):
    """The ratio to the best of the given peers, within each round."""
    found = []
    for seen in rounds:
        answers = seen.get(scenario, {})
        ours = answers.get(peer, {}).get(field)
        theirs = [answers.get(other, {}).get(field) for other in others]
        theirs = [value for value in theirs if value]
        if ours is not None and theirs:
            found.append(ours / min(theirs))
    return found


def spread(found):
    """(median, minimum, maximum), or `None` without values."""
    return (statistics.median(found), min(found), max(found)) if found else None
