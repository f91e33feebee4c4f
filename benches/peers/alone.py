"""Scenarios that need a fresh process: idle tunnels, heartbeats, waves of churn."""

VARIANT_PORT = 7061
# Two default heartbeat intervals, so that each tunnel is pinged twice during the measurement.
HEARTBEAT_HOLD_SECONDS = 60


def idle(bench, running, tunnels, hold=5):
    """Memory of idle tunnels and memory retained after they close, in one fresh process per peer."""
    found = {}
    for peer in running:
        if peer.name == "relay-tcp":
            continue
        again(bench, peer)
        command = ["idle", "--tunnels", tunnels, "--hold", hold, "--concurrency", 64]
        answer = bench.load(peer, command, limit=240)
        found[peer.name] = bench.note(f"idle-{tunnels}", peer.name, answer)
        print(f"idle-{tunnels}  {peer.name}: {brief(answer)}", flush=True)
        again(bench, peer)
    return found


def brief(answer):
    if "failed" in answer:
        return "failed"
    fields = ["idle_b", "after_125_b", "after_16k_b", "kept_share", "idle_cpu_share"]
    return "  ".join(f"{name} {answer.get(name)}" for name in fields)


def again(bench, peer):
    fresh = bench.yard.again(peer)
    peer.process = fresh.process


def heartbeats(bench, tunnels):
    """CPU time of idle tunnels in tidegate, with and without heartbeats."""
    found = {}
    for name, heartbeat, hold in (("without", 'interval = "off"', 10),
                                  ("default", "", HEARTBEAT_HOLD_SECONDS)):
        peer = bench.yard.variant(f"tidegate-beats-{name}", VARIANT_PORT, HEARTBEAT=heartbeat)
        command = ["idle", "--tunnels", tunnels, "--hold", hold, "--concurrency", 64]
        answer = bench.note("heartbeats", peer.name, bench.load(peer, command, limit=240))
        found[name] = answer | {"tunnels": tunnels}
        print(f"heartbeats  {name}: idle_cpu_share {answer.get('idle_cpu_share')}", flush=True)
        bench.yard.end(peer)
    return found


def churn(bench, running, waves, tunnels):
    """Waves of tunnels that are reset; shows whether memory grows from wave to wave."""
    found = {}
    for peer in running:
        if peer.name == "relay-tcp":
            continue
        again(bench, peer)
        command = ["churn", "--waves", waves, "--tunnels", tunnels, "--reset"]
        answer = bench.note("churn", peer.name, bench.load(peer, command, limit=240))
        found[peer.name] = answer | {"tunnels": tunnels}
        print(f"churn  {peer.name}: {answer.get('after_wave_b', 'failed')}", flush=True)
        again(bench, peer)
    return found
