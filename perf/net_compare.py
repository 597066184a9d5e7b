#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Side by side: ringbolt-net, Open vSwitch with DPDK and testpmd's net_vhost, with
the same front-end (testpmd's virtio-user driver), interleaved round by round.

The server polls on one CPU and the front-end on another. How far apart they are
is measured before and after each sample while both stand still, and only samples
with the same answer are compared; see compare.py, which does the same for disks.
Writes a report, plots and all samples to --out. Called by perf/run; Python's
standard library only."""

import argparse
import json
import os
import shlex
import shutil
import statistics
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import machine  # noqa: E402
import net_extras  # noqa: E402
import report  # noqa: E402
from net_frontend import FrontEnd, frozen  # noqa: E402
from net_servers import NetVhost, Ovs, RingboltNet  # noqa: E402
from rounds import (Progress, by_tag, complete, judge, lost_section, pair_ratios,  # noqa: E402
                    take)
from servers import ServerFailed  # noqa: E402
from testpmd import PATHS  # noqa: E402

OURS = RingboltNet
SIZES = (64, 512, 1518)


class Case:
    """One row of a table: frames of one size through several contestants."""

    def __init__(self, table, session, size, targets=()):
        self.table, self.session, self.size = table, session, size
        self.who = [c.name for c in session.who]
        # (contestant compared with, bound of the median ratio)
        self.targets = [t for t in targets if t[0] in self.who]

    @property
    def label(self):
        return f"{self.session.label}, {self.size} B"


class Session:
    """Frames that are sent with the same servers and front-end, one size after
    the other."""

    def __init__(self, label, path, who, ports=1, loopback=False):
        self.label, self.path, self.who = label, path, list(who)
        self.ports, self.loopback = ports, loopback
        self.cases = []

    def case(self, table, size, targets=()):
        self.cases.append(Case(table, self, size, targets))


def sessions(usable):
    """What is measured, with those contestants that can run here."""
    def those(*names):
        return [c for c in usable if c in names]

    out = []
    for path in PATHS:
        s = Session(path, path, those(OURS, NetVhost), loopback=True)
        for size in SIZES:
            s.case(f"Loopback of one port, {size} B", size, [(NetVhost.name, 1.0)])
        out.append(s)
    targets = {64: [(Ovs.name, 1.5), (NetVhost.name, 1.0)],
               1518: [(Ovs.name, 1.7), (NetVhost.name, 1.4)]}
    for path in ("split", "packed", "split mergeable", "packed mergeable"):
        s = Session(path, path, those(OURS, Ovs, NetVhost), ports=2)
        for size in SIZES:
            s.case("From port to port", size, targets.get(size, ()))
        out.append(s)
    for ports in (1, 8, 32):
        s = Session(f"{ports} busy port{'s' if ports > 1 else ''}", "packed mergeable",
                    those(OURS, NetVhost), ports=ports, loopback=ports == 1)
        s.case("Busy ports on one loop", 64)
        out.append(s)
    return out


class Sampler:
    """Takes samples with a server and a front-end that run."""

    def __init__(self, opts, scratch):
        self.o = opts
        self.scratch = scratch
        self.pingpong = os.path.join(opts.build, "perf", "pingpong")

    def distance(self, pids):
        with frozen(pids):
            return machine.pingpong(self.pingpong, (self.o.bench_cpu, self.o.server_cpu))

    def server(self, cls, ports, **kw):
        return cls(scratch=self.scratch, cpu=self.o.server_cpu, nr_devices=ports,
                   huge=self.o.huge_dir, **kw)

    def front_end(self, server, path):
        return FrontEnd(server, path, self.scratch, self.o.bench_cpu, self.o.huge_dir)

    def sample(self, server, front_end, size, helpers=()):
        """A dict; "dropped" says why it does not count. helpers: processes that
        take part and are neither."""
        pids = server.pids() + front_end.pids() + list(helpers)
        front_end.begin(size)
        time.sleep(self.o.warmup)
        tag_before, ns_before = self.distance(pids)
        others = machine.Others(pids)
        others.start()
        r = front_end.rate(self.o.seconds)
        share = others.share()
        tag_after, ns_after = self.distance(pids)
        r["server_cycles"] = server.busy_cycles(min(0.2, self.o.seconds), r)
        r["lost"] = front_end.end()
        r["round_trip_ns"] = [ns_before, ns_after]
        judge(r, tag_before, tag_after, share)
        if min(r["ports"]) == 0:
            r["dropped"] = "a port got no frames"
        return r


def collect_session(opts, sampler, session, cls, got, progress):
    """One round of a contestant: a sample of each case, in this session."""
    try:
        with sampler.server(cls, session.ports, loopback=session.loopback) as server, \
                sampler.front_end(server, session.path) as front_end:
            for case in session.cases:
                tries = take(lambda c=case: sampler.sample(server, front_end, c.size),
                             opts.retries, opts.seconds * 2)
                got[case][cls.name].append(tries)
                last = tries[-1]
                text = last.get("dropped") or f"{report.si(last['fps'])}frames/s, {last['tag']}"
                progress.line(f"{case.table}: {case.label}: {cls.name}: {text}")
    except ServerFailed as e:
        for case in session.cases:
            got[case][cls.name].append([{"dropped": str(e), "failed": True}])
            progress.line(f"{case.table}: {case.label}: {cls.name}: {e}")


def collect(opts, sampler, todo):
    """{case: {contestant: [tries of each round]}}."""
    got = {c: {who: [] for who in c.who} for s in todo for c in s.cases}
    progress = Progress(opts.rounds * sum(len(c.who) for c in got))
    deadline = time.monotonic() + opts.minutes * 60
    for round_nr in range(opts.rounds):
        for session in todo:
            # Who goes first changes, so that a drift favours nobody.
            for cls in session.who if round_nr % 2 == 0 else reversed(session.who):
                if round_nr and time.monotonic() > deadline:
                    continue
                collect_session(opts, sampler, session, cls, got, progress)
    progress.end()
    return got


def fps(sample):
    return sample["fps"]


def median_of(samples, key):
    """The median of what samples say about key, None if they say nothing."""
    values = [s[key] for s in samples if s.get(key) is not None]
    return statistics.median(values) if values else None


def row(case, who, chosen):
    name = f"{case.session.label}: {who}" if "Loopback" in case.table else f"{case.label}: {who}"
    if not chosen:
        return [name] + ["–"] * 8
    lo, mid, hi = report.spread([s["fps"] / 1e6 for s in chosen])
    text = [f"{v:.2f}" for v in (lo, mid, hi)]
    for key, form in (("server_cycles", "{:.0f}"), ("cycles", "{:.0f}"), ("busy", "{:.0%}"),
                      ("lost", "{:.1%}")):
        v = median_of(chosen, key)
        text.append("–" if v is None else form.format(v))
    if text[3] == "–" and "hz" in chosen[0]:
        # It does not count them: all of its time, which is the same thing where
        # the front-end is not the limit.
        text[3] = f"≤ {statistics.median(s['hz'] / s['fps'] for s in chosen):.0f}"
    return [name, len(chosen), *text]


def table_section(name, cases, got, out_dir, slug):
    """Markdown of one table with its plots, one part for each tag; the median
    ratio to each peer over all rows."""
    parts, goals = [f"## {name}\n"], []
    tagged = {c: by_tag(got[c]) for c in cases}
    note = ""
    for c in cases:
        if not complete(tagged[c], c.who):
            tagged[c] = by_tag(got[c], disturbed=True)
            c.session.label = c.session.label.removesuffix(" (disturbed)") + " (disturbed)"
            note = ("**The machine was busy:** rows marked as disturbed had no sample that counts "
                    "for one contestant or more, and show what there was.\n")
    parts.append(note)
    for tag in sorted({t for c in cases for t in tagged[c]}, reverse=True):
        rows, groups, ratios = [], [], {}
        for c in cases:
            samples = tagged[c].get(tag)
            if not samples:
                continue
            rows += [row(c, who, list(samples[who].values())) for who in c.who]
            bars = [(who, report.spread([s["fps"] for s in samples[who].values()]))
                    for who in c.who if samples[who]]
            if bars:
                groups.append((c.label, bars))
            for peer in c.who:
                found = pair_ratios(samples.get(OURS.name, {}), samples[peer], fps)
                if peer == OURS.name or not found:
                    continue
                ratio = statistics.median(found)
                ratios.setdefault(peer, []).append(ratio)
                bound = dict(c.targets).get(peer)
                verdict = f" (target {bound:g}: {'reached' if ratio >= bound else 'missed'})" \
                    if bound else ""
                goals.append(f"- {c.label}, {tag}: {ratio:.2f} x {peer}{verdict}")
        for peer, values in ratios.items():
            goals.append(f"- median of these {len(values)} rows, {tag}: "
                         f"{statistics.median(values):.2f} x {peer}")
        parts.append(f"CPUs {tag}.\n")
        parts.append(report.table(["work", "samples", "min Mfps", "median", "max",
                                   "server cycles a frame", "front-end cycles a frame",
                                   "front-end busy", "lost"], rows))
        if groups:
            file = f"{slug}-{tag}.svg"
            with open(os.path.join(out_dir, file), "w", encoding="utf-8") as f:
                f.write(report.svg_bars(f"{name}, CPUs {tag}", "frames/s", groups))
            parts.append(f"\n![{name}, CPUs {tag}]({file})\n")
    if goals:
        parts.append("Ratios pair by pair, their medians:\n\n" + "\n".join(goals) + "\n")
    return "\n".join(p for p in parts if p)


def overall_section(got):
    """The loopback ratios of all paths and sizes in one figure."""
    values = {}
    for case, rounds in got.items():
        if not case.session.loopback or "Loopback" not in case.table:
            continue
        for tag, samples in by_tag(rounds).items():
            found = pair_ratios(samples.get(OURS.name, {}), samples.get(NetVhost.name, {}), fps)
            if found:
                values.setdefault(tag, []).append(statistics.median(found))
    lines = [f"- {tag}: {statistics.median(v):.2f} x {NetVhost.name} over {len(v)} rows "
             f"(target 1.2: {'reached' if statistics.median(v) >= 1.2 else 'missed'}), "
             f"the lowest {min(v):.2f}" for tag, v in values.items()]
    return "## Loopback, all paths and sizes\n\n" + "\n".join(lines) + "\n" if lines else ""


def parse():
    p = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    p.add_argument("--build", required=True, help="build folder with the tools and ringbolt-net")
    p.add_argument("--out", default="out/perf-net", help="where the report goes (%(default)s)")
    p.add_argument("--quick", action="store_true", help="two short rounds, ten minutes")
    p.add_argument("--rounds", type=int, help="rounds of all contestants (5; quick: 2)")
    p.add_argument("--seconds", type=float, help="measured time of a sample (0.7; quick: 0.3)")
    p.add_argument("--warmup", type=float, help="before that (0.2; quick: 0.1)")
    p.add_argument("--retries", type=int, help="of a disturbed sample (1; quick: 1)")
    p.add_argument("--minutes", type=float, help="start no new round later (25; quick: 6)")
    p.add_argument("--server-cpu", type=int, default=1)
    p.add_argument("--bench-cpu", type=int, default=0)
    p.add_argument("--huge-dir", help="a folder of hugetlbfs for everybody's memory (none)")
    p.add_argument("--only", action="append", default=[], metavar="WORD",
                   help="only tables whose name has this word, and of what is no table: idle, "
                        "latency, memory, guests; repeatable")
    p.add_argument("--path", action="append", default=[], metavar="NAME",
                   help=f"only these ring paths: {', '.join(PATHS)}; repeatable")
    p.add_argument("--who", action="append", default=[], metavar="NAME",
                   help="only these contestants: ringbolt-net, OVS-DPDK, net_vhost; repeatable")
    p.add_argument("--size", action="append", type=int, default=[], help="only these sizes")
    o = p.parse_args()
    for key, full, quick in (("rounds", 5, 2), ("seconds", 0.7, 0.3), ("warmup", 0.2, 0.1),
                             ("retries", 1, 1), ("minutes", 25.0, 6.0)):
        if getattr(o, key) is None:
            setattr(o, key, quick if o.quick else full)
    return o


def prepare(opts):
    """(sessions, contestants, notes about what cannot run here)."""
    usable, notes = [], []
    for cls in (OURS, Ovs, NetVhost):
        if opts.who and cls.name not in opts.who:
            continue
        why = cls.missing()
        if why:
            notes.append(f"{cls.name} is left out: {why}.")
        else:
            usable.append(cls)
    todo = sessions(usable)
    for s in todo:
        s.cases = [c for c in s.cases
                   if (not opts.only or any(w.lower() in c.table.lower() for w in opts.only))
                   and (not opts.size or c.size in opts.size)]
    return ([s for s in todo if s.cases and s.who and (not opts.path or s.path in opts.path)],
            usable, notes)


def main():
    opts = parse()
    build = os.path.abspath(opts.build)
    RingboltNet.binary = os.path.join(build, "apps", "ringbolt-net")
    RingboltNet.ctl = os.path.join(build, "apps", "ringboltctl")
    if (os.cpu_count() or 1) < 2:
        sys.exit("net_compare.py: needs two CPUs, one for the server and one for the front-end")
    os.makedirs(opts.out, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="rbperf-")
    try:
        todo, usable, notes = prepare(opts)
        sampler = Sampler(opts, scratch)
        got = collect(opts, sampler, todo)
        extra, data = net_extras.measure(opts, sampler, usable)
        write_report(opts, got, usable, notes, extra, data)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_report(opts, got, usable, notes, extra, data):
    tables = list(dict.fromkeys(c.table for c in got))
    parts = ["# Side by side: network\n",
             f"{machine.describe()}; {time.strftime('%Y-%m-%d')}. "
             f"{'; '.join(c.version() for c in usable)}. Every server polls on CPU "
             f"{opts.server_cpu}, the front-end (testpmd, virtio-user, rings of 1024) on CPU "
             f"{opts.bench_cpu}; {'hugepages' if opts.huge_dir else 'no hugepages'}. "
             f"{opts.rounds} rounds of {opts.seconds:g} s a sample, contestants interleaved. "
             "Cycles are those of turns that moved frames.\n",
             f"Command: `perf/run --net {shlex.join(sys.argv[3:])}`\n"]
    parts += [f"{n}\n" for n in notes]
    parts += [table_section(t, [c for c in got if c.table == t], got, opts.out, f"net{i + 1}")
              for i, t in enumerate(tables)]
    parts += [overall_section(got), extra, lost_section(list(got), list(got.values()))]
    text = "\n".join(p for p in parts if p)
    with open(os.path.join(opts.out, "report.md"), "w", encoding="utf-8") as f:
        f.write(text)
    samples = [{"table": c.table, "label": c.label, "rounds": g} for c, g in got.items()]
    with open(os.path.join(opts.out, "results.json"), "w", encoding="utf-8") as f:
        json.dump({"cases": samples, "extras": data}, f, indent=1)
    print(text)
    print(f"Report, plots and samples: {opts.out}")


if __name__ == "__main__":
    main()
