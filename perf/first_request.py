# SPDX-License-Identifier: BSD-3-Clause
"""What the first request after idling costs more than one of a busy loop: servers and a
thread that only has to wake up, interleaved, after several times of idling."""

import contextlib
import statistics

import report
from servers import Ringbolt

IDLE_MS = (1, 5, 20, 100)
ROUNDS_MAX = 7
WAKE = "waking a thread"
# What the front-end did meanwhile. Asleep, its own CPU has to come back too.
FRONT_END = ("awake", "asleep")


def _seconds(idle_ms):
    """At least a dozen requests."""
    return max(0.25, 0.0125 * idle_ms)


def _wake(opts, sampler, idle_ms, awake):
    cmd = [sampler.pingpong, "--cpus", f"{opts.bench_cpu},{opts.server_cpu}", "--wake",
           "--ms", str(int(_seconds(idle_ms) * 1000)), "--idle-us", str(idle_ms * 1000)]
    return sampler.run_tool(cmd + (["--awake"] if awake else []))["wake_ns"]


def _bench(opts, sampler, server, *more):
    cmd = [sampler.bench, "--cpu", str(opts.bench_cpu), "--socket", server.sockets[0],
           "--depth", "1", *more]
    return sampler.run_tool(cmd)["latency_ns"]["p50"]


def _first(opts, sampler, server, idle_ms, awake):
    return _bench(opts, sampler, server, "--seconds", str(_seconds(idle_ms)), "--warmup", "0",
                  "--pause-us", str(idle_ms * 1000), "--pause-awake", "on" if awake else "off")


def measure(opts, sampler, scratch, contestants, store):
    """contestants: classes of servers. {"busy": {server: p50 ns}, "rows": [{"idle_ms",
    "front_end", "more": {who: [ns of each round]}}]}."""
    rows = [{"idle_ms": ms, "front_end": fe, "more": {}} for fe in FRONT_END for ms in IDLE_MS]
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(cls(store, scratch=scratch, cpu=opts.server_cpu))
                   for cls in contestants]
        busy = {s.name: _bench(opts, sampler, s, "--seconds", "0.5") for s in running}
        for _ in range(min(opts.rounds, ROUNDS_MAX)):
            for row in rows:
                ms, awake = row["idle_ms"], row["front_end"] == "awake"
                more = row["more"]
                more.setdefault(WAKE, []).append(_wake(opts, sampler, ms, awake))
                for s in running:
                    more.setdefault(s.name, []).append(
                        _first(opts, sampler, s, ms, awake) - busy[s.name])
    return {"busy": busy, "rows": rows}


def markdown(data):
    busy = data["busy"]
    names = [WAKE] + list(busy)
    text = ", ".join(f"{report.micro(ns)} µs ({name})" for name, ns in busy.items())
    rounds = len(data["rows"][0]["more"][WAKE])
    lines = []
    for row in data["rows"]:
        line = [f"{row['idle_ms']} ms, {row['front_end']}"]
        for name in names:
            low, median, high = report.spread(row["more"][name])
            line.append(f"{median / 1000:.1f} ({low / 1000:.0f} to {high / 1000:.0f})")
        above = statistics.median(a - b for a, b in
                                  zip(row["more"][Ringbolt.name], row["more"][WAKE]))
        lines.append(line + [f"{above / 1000:.1f}"])
    return (f"## The first request after idling\n\nMore than one of a busy loop, which takes {text}: "
            f"medians of {rounds} rounds, with the spread between them, in µs. Target of "
            f"{Ringbolt.name}: 50. Beside them what it takes to wake a thread that sleeps on an "
            "eventfd and does nothing else. The front-end was awake meanwhile, or asleep: then its "
            "own CPU has to come back too.\n\n" +
            report.table(["idle, front-end"] + names + [f"{Ringbolt.name} above waking"], lines) +
            "\n")
