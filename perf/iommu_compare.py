#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a virtual IOMMU costs when nothing misses: disks of ringbolt-blk (null
store), ports of ringbolt-net and of testpmd's net_vhost (iommu-support=1), each with
everything mapped from the start, against the same without. 32 requests or 128
frames under way, interleaved round by round; a port sends each frame back. Called
by perf/run."""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import machine  # noqa: E402
import report  # noqa: E402
from net_servers import NetVhost, RingboltNet  # noqa: E402
from net_frontend import frozen  # noqa: E402
from rounds import by_tag, judge, pair_ratios, take  # noqa: E402
from servers import Ringbolt, ServerFailed  # noqa: E402

NULL = ("null", "10G", False)
RINGS = ("split", "packed")


class Work:
    """A server, and the tool that drives it. mappings: how memory is mapped."""

    def __init__(self, server, tool, depth, mappings, rate, **options):
        self.server, self.tool, self.depth = server, tool, depth
        self.mappings, self.rate = mappings, rate
        self.options = options

    @property
    def name(self):
        return self.server.name

    def start(self, opts, scratch, iommu):
        return self.server(scratch=scratch, cpu=opts.server_cpu, iommu=iommu, **self.options)

    def command(self, opts, socket, ring, mapping):
        return [os.path.join(opts.build, "perf", self.tool[0]), self.tool[1], socket,
                "--cpu", str(opts.bench_cpu), "--depth", str(self.depth), "--ring", ring,
                "--iommu", mapping, "--seconds", str(opts.seconds), "--warmup", "0.2"]


def works():
    net = ("vunet-bench", "--from")
    return [Work(Ringbolt, ("vublk-bench", "--socket"), 32, ("off", "on"), "iops", store=NULL),
            Work(RingboltNet, net, 128, ("off", "on", "pages"), "fps", loopback=True),
            Work(NetVhost, net, 128, ("off", "on", "pages"), "fps", loopback=True)]


def distance(opts, server):
    """How far apart the two CPUs are, measured while the server stands still."""
    with frozen([server.pid]):
        return machine.pingpong(os.path.join(opts.build, "perf", "pingpong"),
                                (opts.bench_cpu, opts.server_cpu))[0]


def sample(opts, scratch, work, ring, mapping):
    try:
        with work.start(opts, scratch, mapping != "off") as server:
            tag_before = distance(opts, server)
            others = machine.Others([server.pid])
            others.start()
            done = subprocess.run(work.command(opts, server.sockets[0], ring, mapping),
                                  capture_output=True, text=True, timeout=60)
            share = others.share()
            tag_after = distance(opts, server)
    except (ServerFailed, subprocess.TimeoutExpired) as e:
        return {"dropped": str(e), "failed": True}
    if done.returncode:
        return {"dropped": done.stderr.strip(), "failed": True}
    return judge({**json.loads(done.stdout), "errors": 0}, tag_before, tag_after, share)


def collect(opts, scratch):
    """{(server, ring): {mapping: [tries of each round]}}."""
    todo = works()
    got = {(w.name, ring): {m: [] for m in w.mappings} for w in todo for ring in RINGS}
    for _, w, ring in itertools.product(range(opts.rounds), todo, RINGS):
        for m in w.mappings:
            tries = take(lambda w=w, r=ring, m=m: sample(opts, scratch, w, r, m), 1, 2)
            got[w.name, ring][m].append(tries)
            last = tries[-1]
            rate = last.get("dropped") or report.si(last[w.rate])
            print(f"{w.name}, {ring}, {m}: {rate}", file=sys.stderr, flush=True)
    return got


def tagged(got):
    """[(server, rings, tag, {mapping: {round: sample}})], where something counts."""
    return [(name, ring, tag, samples) for (name, ring), mappings in got.items()
            for tag, samples in by_tag(mappings).items() if samples["off"]]


def markdown(got):
    rates = {w.name: w.rate for w in works()}
    rows, goals, ours = [], [], {}
    for name, ring, tag, samples in tagged(got):
        def rate(s, key=rates[name]):
            return s[key]

        for mapping, taken in samples.items():
            if not taken:
                continue
            lo, mid, hi = report.spread([rate(s) / 1e6 for s in taken.values()])
            found = pair_ratios(taken, samples["off"], rate)
            share = statistics.median(found) if found else None
            rows.append([f"{name}, {ring}, {mapping}, {tag}", len(taken), f"{lo:.2f}",
                         f"{mid:.2f}", f"{hi:.2f}", f"{share:.2f}" if found else "–"])
            if found and mapping == "on" and name != NetVhost.name:
                goals.append(f"- {name}, {ring}, {tag}: {1 - share:.0%} less (target: at most 10 %: "
                             f"{'reached' if share >= 0.9 else 'missed'})")
            if name == RingboltNet.name:
                ours[ring, mapping, tag] = taken
            found = pair_ratios(ours.get((ring, mapping, tag), {}), taken, rate)
            if name == NetVhost.name and found:
                ratio = statistics.median(found)
                goals.append(f"- {ring}, {mapping}, {tag}: {ratio:.2f} x {NetVhost.name} (target 1: "
                             f"{'reached' if ratio >= 1 else 'missed'})")
    return ("# What a virtual IOMMU costs\n\n"
            f"{machine.describe()}. 32 requests or 128 frames under way; on: one mapping of all memory, pages: one "
            "of each page.\n\n" +
            report.table(["server, rings, mapping, CPUs", "samples", "min M/s", "median", "max",
                          "of off"], rows) + "\n\n" + "\n".join(goals) + "\n")


def parse():
    p = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    p.add_argument("--build", required=True, help="build folder with the tools and programs")
    p.add_argument("--out", default="out/perf-iommu", help="where the report goes (%(default)s)")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.6, help="measured time of a sample")
    p.add_argument("--quick", action="store_true", help="two rounds")
    p.add_argument("--server-cpu", type=int, default=1)
    p.add_argument("--bench-cpu", type=int, default=0)
    o = p.parse_args()
    if o.quick:
        o.rounds = 2
    return o


def main():
    opts = parse()
    opts.build = os.path.abspath(opts.build)
    Ringbolt.binary = os.path.join(opts.build, "apps", "ringbolt-blk")
    Ringbolt.poll = "busy"
    RingboltNet.binary = os.path.join(opts.build, "apps", "ringbolt-net")
    RingboltNet.ctl = os.path.join(opts.build, "apps", "ringboltctl")
    os.makedirs(opts.out, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="rbperf-")
    try:
        got = collect(opts, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = markdown(got)
    with open(os.path.join(opts.out, "report.md"), "w", encoding="utf-8") as f:
        f.write(text)
    with open(os.path.join(opts.out, "samples.json"), "w", encoding="utf-8") as f:
        json.dump({f"{name}, {ring}": m for (name, ring), m in got.items()}, f, indent=1)
    print(text)


if __name__ == "__main__":
    main()
