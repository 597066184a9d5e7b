# SPDX-License-Identifier: BSD-3-Clause
"""What is not the frame rate of busy ports: what idle ports cost them, how long a
frame takes at a tenth of the load, memory, and TCP between guests."""

import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager

import machine
import net_guests
import report
from net_servers import NetVhost, Ovs, RingboltNet
from rounds import by_tag, judge, pair_ratios, take
from servers import ServerFailed

IDLE = 64
IDLE_SECONDS = 2.0
PATH = "packed mergeable"


def say(what):
    print(f"{what}...", file=sys.stderr, flush=True)


@contextmanager
def idle_ports(opts, paths):
    """Hold these ports open and leave them alone; pids of who does."""
    if not paths:
        yield []
        return
    cmd = [os.path.join(opts.build, "perf", "vunet-bench"), "--ring", "packed"]
    for path in paths:
        cmd += ["--idle", path]
    p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if "ready" not in p.stdout.readline():
            raise ServerFailed("the idle ports did not come up")
        yield [p.pid]
    finally:
        p.stdin.close()
        try:
            p.wait(30)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
        p.stdout.close()


class Busy:
    """The first two ports of a server that has more: what FrontEnd wants."""

    def __init__(self, server):
        self.sockets, self.queues, self.loopback = server.sockets[:2], server.queues, False


def any_tag(got):
    """by_tag(), and what was disturbed where nothing else is."""
    tagged = by_tag(got)
    if any(all(samples.values()) for samples in tagged.values()):
        return tagged
    return {f"{tag} (disturbed)": samples for tag, samples in by_tag(got, True).items()}


def with_idle(opts, sampler, cls, nr):
    """A sample of the rate of two busy ports beside nr idle ones."""
    try:
        with sampler.server(cls, 2 + nr) as server, \
                idle_ports(opts, server.sockets[2:]) as pids, \
                sampler.front_end(Busy(server), PATH) as front_end:
            return take(lambda: sampler.sample(server, front_end, 64, pids), opts.retries,
                        opts.seconds * 2)
    except ServerFailed as e:
        return [{"dropped": str(e), "failed": True}]


def idle_cost(opts, sampler, usable):
    """(markdown, data): the rate with 64 idle ports, as a share of that without."""
    got = {}
    say("idle ports")
    for cls in [c for c in (RingboltNet, Ovs) if c in usable]:
        got[cls.name] = {nr: [] for nr in (0, IDLE)}
        for _ in range(opts.rounds):
            for nr in (0, IDLE):
                got[cls.name][nr].append(with_idle(opts, sampler, cls, nr))
    rows = []
    for name, both in got.items():
        for tag, samples in any_tag(both).items():
            ratios = pair_ratios(samples[IDLE], samples[0], lambda s: s["fps"])
            if not ratios:
                continue
            rate = {nr: statistics.median(s["fps"] / 1e6 for s in samples[nr].values())
                    for nr in (0, IDLE)}
            change = statistics.median(ratios) - 1
            verdict = "" if name != RingboltNet.name else \
                "reached" if change > -0.05 else "missed"
            rows.append([f"{name}, {tag}", len(ratios), f"{rate[0]:.2f}", f"{rate[IDLE]:.2f}",
                         f"{change:+.1%}", verdict])
    return ("## What idle ports cost\n\n"
            f"Frames of 64 B between two ports ({PATH}) with none and {IDLE} more ports connected, "
            "their rings started and their buffers in place (target: less than 5 % slower).\n\n" +
            report.table(["server", "samples", "alone, Mfps", f"with {IDLE} idle", "change",
                          "target"], rows) + "\n"), got


def latency_once(opts, sampler, cls, ring, rate):
    """A sample of one contestant at that rate."""
    with sampler.server(cls, 2) as server:
        cmd = [os.path.join(opts.build, "perf", "vunet-bench"), "--cpu", str(opts.bench_cpu),
               "--ring", ring, "--size", "64", "--rate", str(int(rate)),
               "--seconds", str(opts.seconds), "--warmup", "0.5",
               "--from", server.sockets[0], "--to", server.sockets[1]]
        tag_before, _ = sampler.distance(server.pids())
        others = machine.Others(server.pids())
        others.start()
        done = subprocess.run(cmd, capture_output=True, text=True, timeout=60)
        share = others.share()
        tag_after, _ = sampler.distance(server.pids())
    if done.returncode:
        raise ServerFailed(done.stderr.strip())
    return judge({**json.loads(done.stdout), "errors": 0}, tag_before, tag_after, share)


def latency(opts, sampler, usable, rate):
    """(markdown, data): how long a frame takes from port to port."""
    def sample(cls, ring):
        try:
            return latency_once(opts, sampler, cls, ring, rate)
        except (ServerFailed, subprocess.TimeoutExpired) as e:
            return {"dropped": str(e), "failed": True}

    rows, goals, data = [], [], {}
    say("latency")
    for ring in ("split", "packed"):
        got = {cls.name: [] for cls in usable}
        for round_nr in range(opts.rounds):
            for cls in usable if round_nr % 2 == 0 else reversed(usable):
                got[cls.name].append(take(lambda c=cls, r=ring: sample(c, r), opts.retries,
                                          opts.seconds * 2))
        data[ring] = got
        for tag, samples in any_tag(got).items():
            for name, chosen in samples.items():
                if not chosen:
                    continue
                values = list(chosen.values())
                quantiles = [statistics.median(s["latency_ns"][q] for s in values)
                             for q in ("p50", "p90", "p99", "p99.9")]
                sent = max(1, sum(s["sent"] for s in values))
                lost = 1 - sum(s["received"] for s in values) / sent
                rows.append([f"{ring}, {tag}: {name}", len(values),
                             f"{statistics.median(s['fps'] for s in values) / 1e6:.2f}",
                             *map(report.micro, quantiles), f"{lost:.2%}"])
            goals += latency_goals(f"{ring}, {tag}", samples)
    return ("## Latency\n\nFrom making a frame of 64 B available on one port until the driver of "
            f"the other finds it, at {rate / 1e6:.2f} million frames a second (a tenth of "
            f"{NetVhost.name}'s rate, open loop; target: median and p99 no worse than "
            f"{NetVhost.name}'s).\n\n" +
            report.table(["rings, CPUs: server", "samples", "Mfps", "p50 µs", "p90 µs", "p99 µs",
                          "p99.9 µs", "lost"], rows) + "\n\n" + "\n".join(goals) + "\n"), data


def latency_goals(label, samples):
    """Lines that compare ours with the peer's, pair by pair."""
    out = []
    for q in ("p50", "p99"):
        found = pair_ratios(samples.get(RingboltNet.name, {}), samples.get(NetVhost.name, {}),
                            lambda s, q=q: s["latency_ns"][q])
        if found:
            ratio = statistics.median(found)
            out.append(f"- {label}: {q} {ratio:.2f} x {NetVhost.name} (target 1: "
                       f"{'reached' if ratio <= 1 else 'missed'})")
    return out


def footprint(opts, sampler, cls, options):
    """Resident memory of a server whose two ports are in use, guest memory aside,
    how soon it listened, and the share of a CPU it takes when nothing happens."""
    with sampler.server(cls, 2, **options) as server:
        started = server.started_ms
        with sampler.front_end(server, PATH) as front_end:
            front_end.begin(1518)
            time.sleep(0.5)
            sizes = [machine.resident_apart(pid, front_end.pids()) for pid in server.pids()]
            front_end.end()
        with idle_ports(opts, server.sockets):
            time.sleep(1)
            before = sum(machine.process_cpu(pid) for pid in server.pids())
            time.sleep(IDLE_SECONDS)
            idle = sum(machine.process_cpu(pid) for pid in server.pids()) - before
    return {"own": sum(o for o, _ in sizes), "shared": sum(s for _, s in sizes),
            "started_ms": started, "idle": idle / IDLE_SECONDS}


def memory(opts, sampler, usable):
    """(markdown, data)."""
    rows, data = [], {}
    say("memory")
    kinds = [(cls.name, cls, {}) for cls in usable]
    if RingboltNet in usable:
        kinds.insert(1, (f"{RingboltNet.name}, adaptive", RingboltNet, {"poll": "adaptive"}))
    for name, cls, options in kinds:
        try:
            data[name] = f = footprint(opts, sampler, cls, options)
        except (ServerFailed, TypeError) as e:
            data[name] = {"failed": str(e)}
            rows.append([name, str(e), "–", "–", "–"])
            continue
        rows.append([name, f"{f['own'] / (1 << 20):.1f}", f"{f['shared'] / (1 << 20):.1f}",
                     f"{f['started_ms']:.0f}", f"{f['idle']:.1%}"])
    return ("## Memory, start, idle\n\nTwo ports, frames of 1518 B going between them (target: "
            "below 60 MiB); the share of a CPU that is used while both are idle.\n\n" +
            report.table(["server", "resident MiB", "guest memory MiB", "ms until it listens",
                          "idle CPU"], rows) + "\n"), data


def tenth_of(sampler, opts, usable):
    """A tenth of what net_vhost forwards between two ports, frames a second."""
    peer = NetVhost if NetVhost in usable else usable[0]
    with sampler.server(peer, 2) as server, sampler.front_end(server, "split") as front_end:
        return sampler.sample(server, front_end, 64)["fps"] / 10


def measure(opts, sampler, usable):
    """(markdown, data) of all of it that --only lets through."""
    def wanted(word):
        return not opts.only or word in opts.only

    parts, data = [], {}
    if wanted("idle"):
        text, data["idle"] = idle_cost(opts, sampler, usable)
        parts.append(text)
    if wanted("latency"):
        try:
            rate = tenth_of(sampler, opts, usable)
            text, data["latency"] = latency(opts, sampler, usable, rate)
            parts.append(text)
        except ServerFailed as e:
            parts.append(f"## Latency\n\nCould not be measured: {e}\n")
    if wanted("memory"):
        text, data["memory"] = memory(opts, sampler, usable)
        parts.append(text)
    if wanted("guests"):
        say("TCP between guests")
        text, data["guests"] = net_guests.measure(opts, usable)
        parts.append(text)
    return "\n".join(parts), data
