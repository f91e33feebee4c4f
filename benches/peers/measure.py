"""Runs the load generator, one scenario and one peer after another."""

import json
import statistics
import subprocess
import sys
import time

import peers
from processes import Failed

# Far more than any scenario takes; what hangs is a failure and not the end of the run.
LIMIT_SECONDS = 30


class Bench:
    """A run's yard, its settings, and what it has seen go wrong."""

    def __init__(self, yard, settings):
        self.yard, self.settings = yard, settings
        self.failures, self.repeated = [], []

    def load(self, peer, told, *rest, **options):
        """loadgen's answer, or `{"failed": why}`; a standstill is no answer."""
        answer = self.once(peer, told, *rest, **options)
        if STANDSTILL in str(answer.get("failed")):
            self.repeated.append(f"{' '.join(map(str, told))} through {peer.name}")
            answer = self.once(peer, told, *rest, **options)
        return answer

    def once(self, peer, told, seconds=None, warmup=None, limit=LIMIT_SECONDS):
        command = ["taskset", "-c", self.yard.load_cores, peers.program("loadgen"), *told]
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
        """A peer's failure is a result; tidegate's own and a floor's is the run's."""
        if "failed" in answer:
            why = f"{scenario} through {peer}: {answer['failed']}"
            print(f"FAILED {why}", file=sys.stderr, flush=True)
            if peer.startswith("tidegate") or peer in peers.FLOORS:
                self.failures.append(why)
        return answer

    def rounds(self, scenarios, running):
        """Paired and interleaved: in each round, each scenario goes through all peers in turn, and
        who is first moves on by one."""
        seen = []
        for number in range(self.settings.rounds):
            seen.append({})
            for at, scenario in enumerate(scenarios):
                turn = (number + at) % len(running)
                results = seen[-1][scenario.name] = {}
                for peer in running[turn:] + running[:turn]:
                    if peer.name in scenario.without:
                        continue
                    answer = self.load(peer, scenario.told, self.settings.seconds)
                    results[peer.name] = self.note(scenario.name, peer.name, answer)
                    # Until the last closes have been dealt with.
                    time.sleep(0.05)
                say(f"round {number + 1}/{self.settings.rounds}", scenario.name, results)
        return seen

    def corruption_is_caught(self):
        """A load generator that does not look would make every figure worthless."""
        command = self.yard.relay("relay-tcp", CORRUPT_PORT) + ["--corrupt", "300007"]
        process = self.yard.start("relay-corrupt", command, self.yard.proxy_cores, CORRUPT_PORT)
        liar = peers.Peer("relay-tcp", CORRUPT_PORT, process)
        for told in (["echo", "--size", 1024, "--inflight", 1, "--tunnels", 1],
                     ["echo", "--size", 65536, "--inflight", 4, "--tunnels", 4],
                     ["bulk", "--direction", "down", "--size", 65536, "--tunnels", 1]):
            answer = self.load(liar, told, seconds=1, limit=20)
            if "wrong byte" not in str(answer.get("failed")):
                raise Failed(f"a relay that breaks bytes was not noticed by {told}: {answer}")
            print(f"corruption is caught: {answer['failed']}", flush=True)
        process.stop()


CORRUPT_PORT = 7051
# What loadgen says when a core was taken away for all of the measured time, as machines that are
# shared do. It is measured once more, and the report says so.
STANDSTILL = "no unit completed during the measurement"


def say(where, scenario, results):
    figures = "  ".join(f"{name} {figure(answer)}" for name, answer in results.items())
    print(f"{where}  {scenario}: {figures}", flush=True)


def figure(answer):
    value = answer.get("cpu_us_per_unit")
    return "failed" if "failed" in answer else "-" if value is None else f"{value:.4g}"


def values(rounds, scenario, peer, field="cpu_us_per_unit"):
    """One for each round in which there is one."""
    found = [seen.get(scenario, {}).get(peer, {}).get(field) for seen in rounds]
    return [value for value in found if value is not None]


def ratios(rounds, scenario, peer, others, field="cpu_us_per_unit"):
    """Within each round, to the best of the others in it."""
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
    """(median, least, most), or `None`."""
    return (statistics.median(found), min(found), max(found)) if found else None
