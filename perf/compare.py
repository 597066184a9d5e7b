#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Side by side: ringbolt-blk, qemu-storage-daemon and a bare io_uring loop, with
the same front-end (vublk-bench), interleaved round by round.

The server runs on one CPU and the front-end on another. A ring between two CPUs
is as fast as their distance, which a hypervisor changes at will: a ping-pong
before and after each sample says how far apart they were, and only samples with
the same answer are compared. Samples in which other processes used more than 8 %
of a core are taken again. Writes a report, plots and all samples to --out.
Called by perf/run; Python's standard library only."""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import extras  # noqa: E402
import machine  # noqa: E402
import report  # noqa: E402
from rounds import (OTHERS_MAX, Progress, by_tag, complete, judge, lost_section,  # noqa: E402
                    pair_differences, pair_ratios, take)
from servers import Qsd, Ringbolt, ServerFailed  # noqa: E402

LIMIT = "uring-limit"
OURS, PEER = Ringbolt.name, Qsd.name
PACKED = OURS + " packed"
NULL_SIZE = 1 << 30


class Case:
    """One row of a table: a piece of work for several contestants."""

    def __init__(self, table, label, kind, depth, pattern="randread", block="4K", devices=1,
                 who=(OURS, PEER, LIMIT), direct=False, targets=()):
        self.table = table
        self.label = label
        self.kind = kind  # null, tmpfs or disk
        self.depth = depth
        self.pattern = pattern
        self.block = block
        self.devices = devices
        self.who = who
        self.direct = direct
        # (quantity, contestant compared with, bound): see verdict().
        self.targets = targets


def cases():
    faster = ("times", PEER, 1.0)
    null = "Null store, 4 KiB random read, one queue"
    tmpfs = "File on tmpfs"
    disk = "File on disk, O_DIRECT"
    several = "Several devices on one loop"
    out = []
    for depth in (1, 32, 128):
        targets = [("times", PEER, 6.5)] if depth > 1 else []
        out.append(Case(null, f"depth {depth}", "null", depth, who=(OURS, PACKED, PEER),
                        targets=targets))
    out.append(Case(tmpfs, "4 KiB randread, depth 1", "tmpfs", 1, who=(OURS, PACKED, PEER, LIMIT),
                    targets=[("p50 above", LIMIT, 600), faster]))
    out.append(Case(tmpfs, "4 KiB randread, depth 32", "tmpfs", 32,
                    who=(OURS, PACKED, PEER, LIMIT),
                    targets=[("times", PEER, 2.4), ("times", LIMIT, 0.9)]))
    out.append(Case(tmpfs, "4 KiB randread, depth 128", "tmpfs", 128, targets=[faster]))
    out.append(Case(tmpfs, "128 KiB read, depth 8", "tmpfs", 8, "read", "128K",
                    targets=[faster, ("times", LIMIT, 0.97)]))
    for label, depth, pattern, block in (
            ("4 KiB randread, depth 1", 1, "randread", "4K"),
            ("4 KiB randread, depth 32", 32, "randread", "4K"),
            ("4 KiB randread, depth 128", 128, "randread", "4K"),
            ("4 KiB randwrite, depth 1", 1, "randwrite", "4K"),
            ("4 KiB randwrite, depth 32", 32, "randwrite", "4K"),
            ("128 KiB write, depth 8", 8, "write", "128K")):
        bound = 0.9 if "write" in pattern else 0.95
        out.append(Case(disk, label, "disk", depth, pattern, block, direct=True,
                        targets=[faster, ("times", LIMIT, bound)]))
    for kind in ("null", "tmpfs"):
        out.append(Case(several, f"{kind}, one device, depth 32", kind, 32, who=(OURS, PEER)))
        out.append(Case(several, f"{kind}, four devices, depth 8 each", kind, 8, devices=4,
                        who=(OURS, PEER), targets=[("times one device", OURS, 1.0)]))
    return out


class Sampler:
    """Takes one sample of one contestant."""

    def __init__(self, opts, scratch, files):
        self.o = opts
        self.scratch = scratch
        self.files = files
        self.bench = os.path.join(opts.build, "perf", "vublk-bench")
        self.limit = os.path.join(opts.build, "perf", "uring-limit")
        self.pingpong = os.path.join(opts.build, "perf", "pingpong")

    def store(self, case):
        return (case.kind, self.files.get(case.kind, NULL_SIZE), case.direct)

    def timing(self):
        return ["--seconds", str(self.o.seconds), "--warmup", str(self.o.warmup)]

    def run_tool(self, cmd):
        """The JSON a tool prints."""
        p = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            out, err = p.communicate(timeout=60 + self.o.seconds)
        except subprocess.TimeoutExpired:
            p.kill()
            p.communicate()
            raise ServerFailed(f"{os.path.basename(cmd[0])} did not end")
        if p.returncode:
            raise ServerFailed(err.strip() or f"{cmd[0]}: exit status {p.returncode}")
        return json.loads(out)

    def work(self, case):
        return ["--depth", str(case.depth), "--block-size", case.block, "--pattern", case.pattern]

    def sample_limit(self, case):
        o = self.o
        r = self.run_tool([self.limit, "--file", self.files[case.kind], "--direct",
                           "on" if case.direct else "off", "--cpu", str(o.server_cpu)]
                          + self.work(case) + self.timing())
        r["cpu_per_million"] = r["cpu_seconds"] / max(r["requests"], 1) * 1e6
        return r

    def sample_server(self, case, who):
        o = self.o
        cls = Qsd if who == PEER else Ringbolt
        with cls(self.store(case), scratch=self.scratch, cpu=o.server_cpu,
                 nr_devices=case.devices) as server:
            cmd = [self.bench, "--cpu", str(o.bench_cpu), "--ring",
                   "packed" if who == PACKED else "split"]
            for path in server.sockets:
                cmd += ["--socket", path]
            before = machine.process_cpu(server.pid)
            r = self.run_tool(cmd + self.work(case) + self.timing())
            after = machine.process_cpu(server.pid)
        if before is not None and after is not None:
            r["cpu_per_million"] = (after - before) / max(r["requests_total"], 1) * 1e6
        return r

    def sample(self, case, who):
        """A dict; "dropped" says why it does not count."""
        o = self.o
        others = machine.Others()
        tag_before, ns_before = machine.pingpong(self.pingpong, (o.bench_cpu, o.server_cpu))
        others.start()
        try:
            r = self.sample_limit(case) if who == LIMIT else self.sample_server(case, who)
        except ServerFailed as e:
            return {"dropped": str(e), "failed": True}
        share = others.share()
        tag_after, ns_after = machine.pingpong(self.pingpong, (o.bench_cpu, o.server_cpu))
        judge(r, tag_before, tag_after, share)
        r["round_trip_ns"] = [ns_before, ns_after]
        if who == LIMIT:
            # No ring between two CPUs: how far apart they are is all the same.
            r["tag"] = "any"
            if share <= OTHERS_MAX:
                r.pop("dropped", None)
        if r["errors"]:
            r["dropped"] = f"{r['errors']} requests failed"
        return r


def collect(opts, sampler, todo):
    """{case index: {contestant: [sample of each round]}}; a round is a list of
    all tries, the last of which counts unless it was dropped."""
    got = [{who: [] for who in c.who} for c in todo]
    progress = Progress(opts.rounds * sum(len(c.who) for c in todo))
    deadline = time.monotonic() + opts.minutes * 60
    for round_nr in range(opts.rounds):
        for i, case in enumerate(todo):
            # Who goes first changes, so that a drift favours nobody.
            order = case.who if round_nr % 2 == 0 else tuple(reversed(case.who))
            for who in order:
                if round_nr and time.monotonic() > deadline:
                    progress.line("out of time")
                    continue
                tries = take(lambda c=case, w=who: sampler.sample(c, w), opts.retries,
                             opts.seconds * 2)
                got[i][who].append(tries)
                last = tries[-1]
                text = last.get("dropped") or f"{report.si(last['iops'])}IOPS, {last['tag']}"
                progress.line(f"{case.kind} {case.label}: {who}: {text}")
    progress.end()
    return got


def verdict(case, samples, base):
    """Texts such as "6.61 x qemu-storage-daemon (target 6.5: reached)"."""
    out = []
    ours = samples.get(OURS, {})
    for quantity, than, bound in case.targets:
        if quantity == "p50 above":
            diffs = pair_differences(ours, samples[than], lambda s: s["latency_ns"]["p50"])
            if diffs:
                v = statistics.median(diffs)
                out.append(f"{v / 1000:+.2f} µs at p50 to {than} (target {bound / 1000:g}: "
                           f"{'reached' if v <= bound else 'missed'})")
            continue
        other = base.get(OURS, {}) if quantity == "times one device" else samples.get(than, {})
        ratios = pair_ratios(ours, other, lambda s: s["iops"])
        if ratios:
            v = statistics.median(ratios)
            what = "one device" if quantity == "times one device" else than
            out.append(f"{v:.2f} x {what} (target {bound:g}: "
                       f"{'reached' if v >= bound else 'missed'})")
    return out


def table_section(name, todo, got, out_dir, slug):
    """Markdown of one table with its plots; one part for each tag."""
    parts, goals = [f"## {name}\n"], []
    indices = [i for i, c in enumerate(todo) if c.table == name]
    tagged = {i: by_tag(got[i]) for i in indices}
    disturbed = [i for i in indices if not complete(tagged[i], todo[i].who)]
    for i in disturbed:
        tagged[i] = by_tag(got[i], disturbed=True)
        todo[i].label += " (disturbed)"
    if disturbed:
        parts.append("**The machine was busy:** rows marked as disturbed had no sample that "
                     "counts for one contestant or more, and show what there was. Measure again "
                     "on a quiet machine.\n")
    for tag in sorted({t for i in indices for t in tagged[i]}, reverse=True):
        rows, groups, base = [], [], {}
        for i in indices:
            case, samples = todo[i], tagged[i].get(tag)
            if not samples:
                continue
            bars = []
            for who in case.who:
                chosen = list(samples[who].values())
                if not chosen:
                    rows.append([f"{case.label}: {who}"] + ["–"] * 8)
                    continue
                lo, mid, hi = report.spread([s["iops"] for s in chosen])
                lat = [statistics.median(s["latency_ns"][q] for s in chosen)
                       for q in ("p50", "p99", "p99.9")]
                cpu = [s["cpu_per_million"] for s in chosen if "cpu_per_million" in s]
                rows.append([f"{case.label}: {who}", len(chosen), report.si(lo), report.si(mid),
                             report.si(hi), *map(report.micro, lat),
                             f"{statistics.median(cpu):.3f}" if cpu else "–"])
                bars.append((who, (lo, mid, hi)))
            if bars:
                groups.append((case.label, bars))
            for text in verdict(case, samples, base):
                goals.append(f"- {case.label}, {tag}: {text}")
            base = samples
        parts.append(f"CPUs {tag}.\n")
        parts.append(report.table(["work", "samples", "min IOPS", "median", "max", "p50 µs",
                                   "p99 µs", "p99.9 µs", "server CPU s per million"], rows))
        if groups:
            file = f"{slug}-{tag}.svg"
            with open(os.path.join(out_dir, file), "w", encoding="utf-8") as f:
                f.write(report.svg_bars(f"{name}, CPUs {tag}", "IOPS", groups))
            parts.append(f"\n![{name}, CPUs {tag}]({file})\n")
    if not any(tagged.values()):
        parts.append("There is none; see what was lost below.\n")
    if goals:
        parts.append("Ratios pair by pair, their medians:\n\n" + "\n".join(goals) + "\n")
    return "\n".join(parts)


def null_cost_section(todo, got):
    """Nanoseconds a request costs where only the rings cost anything."""
    rows = []
    for i, case in enumerate(todo):
        if case.kind != "null" or case.devices > 1 or case.depth < 32 or PACKED not in case.who:
            continue
        for tag, samples in by_tag(got[i]).items():
            rows.append([f"{case.label}, {tag}"] +
                        [f"{1e9 / statistics.median(s['iops'] for s in samples[w].values()):.0f}"
                         if samples[w] else "–" for w in (OURS, PACKED, PEER)])
    if not rows:
        return ""
    return ("## What a request costs on the rings alone\n\nNanoseconds a request, null store, "
            "front-end and server both polling:\n\n" +
            report.table(["depth", "split", "packed", f"{PEER}, split"], rows) + "\n")


def make_file(path, size):
    """A file of random bytes, all of it allocated."""
    chunk = os.urandom(8 << 20)
    with open(path, "wb") as f:
        for _ in range(0, size, len(chunk)):
            f.write(chunk)
        f.flush()
        os.fsync(f.fileno())
    return path


def is_tmpfs(path):
    """The file system that holds path keeps its files in memory."""
    out = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True)
    return out.stdout.strip() in ("tmpfs", "ramfs")


def parse():
    p = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    p.add_argument("--build", required=True, help="build folder with the tools and ringbolt-blk")
    p.add_argument("--out", default="out/perf", help="where the report goes (%(default)s)")
    p.add_argument("--quick", action="store_true", help="three short rounds, four minutes")
    p.add_argument("--rounds", type=int, help="rounds of all contestants (7; quick: 3)")
    p.add_argument("--seconds", type=float, help="measured time of a sample (2; quick: 0.5)")
    p.add_argument("--warmup", type=float, help="before that (0.3; quick: 0.15)")
    p.add_argument("--retries", type=int, help="of a disturbed sample (1; quick: 1)")
    p.add_argument("--minutes", type=float, help="start no new round later (20; quick: 3)")
    p.add_argument("--server-cpu", type=int, default=1)
    p.add_argument("--bench-cpu", type=int, default=0)
    p.add_argument("--tmpfs-dir", default="/dev/shm", help="a folder in memory (%(default)s)")
    p.add_argument("--disk-dir", default="/var/tmp", help="a folder on a disk (%(default)s)")
    p.add_argument("--only", action="append", default=[], metavar="WORD",
                   help="only tables whose name has this word, or \"extras\"; repeatable")
    p.add_argument("--poll", default="adaptive", choices=("busy", "adaptive", "interrupt"),
                   help="of ringbolt-blk (%(default)s)")
    p.add_argument("--keys", default=Ringbolt.keys, metavar="KEY=VALUE,...",
                   help="more keys of ringbolt-blk's file stores (%(default)s)")
    o = p.parse_args()
    for key, full, quick in (("rounds", 7, 3), ("seconds", 2.0, 0.5), ("warmup", 0.3, 0.15),
                             ("retries", 1, 1), ("minutes", 20.0, 3.0)):
        if getattr(o, key) is None:
            setattr(o, key, quick if o.quick else full)
    return o


def prepare(opts, tmp):
    """What can be measured here: (cases, files, notes about what cannot)."""
    todo, notes, files = cases(), [], {}
    if opts.only:
        todo = [c for c in todo if any(w.lower() in c.table.lower() for w in opts.only)]
    if not Qsd.binary:
        notes.append(f"{PEER} is not installed: no peer to compare with.")
        for c in todo:
            c.who = tuple(w for w in c.who if w != PEER)
    sizes = {"tmpfs": (256 << 20) if opts.quick else (1 << 30),
             "disk": (512 << 20) if opts.quick else (2 << 30)}
    for kind, folder in (("tmpfs", opts.tmpfs_dir), ("disk", opts.disk_dir)):
        if not any(c.kind == kind for c in todo):
            continue
        if is_tmpfs(folder) != (kind == "tmpfs"):
            notes.append(f"{folder} is not what --{kind}-dir wants: {kind} left out.")
            todo = [c for c in todo if c.kind != kind]
            continue
        sub = tempfile.mkdtemp(prefix="ringbolt-perf-", dir=folder)
        tmp.append(sub)
        files[kind] = make_file(os.path.join(sub, "disk.img"), sizes[kind])
    return todo, files, notes


def main():
    opts = parse()
    Ringbolt.binary = os.path.join(os.path.abspath(opts.build), "apps", "ringbolt-blk")
    Ringbolt.poll, Ringbolt.keys = opts.poll, opts.keys
    if not os.access(Ringbolt.binary, os.X_OK):
        sys.exit(f"compare.py: --build {opts.build}: no apps/ringbolt-blk in it")
    if (os.cpu_count() or 1) < 2:
        sys.exit("compare.py: needs two CPUs, one for the server and one for the front-end")
    os.makedirs(opts.out, exist_ok=True)
    tmp = [tempfile.mkdtemp(prefix="ringbolt-perf-")]
    try:
        todo, files, notes = prepare(opts, tmp)
        sampler = Sampler(opts, tmp[0], files)
        got = collect(opts, sampler, todo)
        extra, extra_data = "", {}
        if not opts.only or "extras" in opts.only:
            extra, extra_data = extras.measure(opts, sampler, tmp[0])
        write_report(opts, todo, got, notes, extra, extra_data)
    finally:
        for folder in tmp:
            shutil.rmtree(folder, ignore_errors=True)


def write_report(opts, todo, got, notes, extra, extra_data):
    version = subprocess.run([Ringbolt.binary, "--version"], capture_output=True, text=True)
    peer = "not installed"
    if Qsd.binary:
        peer = subprocess.run([Qsd.binary, "--version"], capture_output=True,
                              text=True).stdout.partition("\n")[0]
    parts = ["# Side by side\n",
             f"{machine.describe()}; {time.strftime('%Y-%m-%d')}. {version.stdout.strip()}, "
             f"--poll={opts.poll}, {opts.keys} for files; {peer}, one iothread, aio=io_uring. Server on CPU "
             f"{opts.server_cpu}, front-end (vublk-bench) on CPU {opts.bench_cpu}. "
             f"{opts.rounds} rounds of {opts.seconds:g} s a sample, contestants interleaved.\n",
             f"Command: `perf/run --block {shlex.join(sys.argv[3:])}`\n"]
    parts += [f"{n}\n" for n in notes]
    names = list(dict.fromkeys(c.table for c in todo))
    parts += [table_section(n, todo, got, opts.out, f"plot{i + 1}") for i, n in enumerate(names)]
    parts += [null_cost_section(todo, got), extra, lost_section(todo, got)]
    text = "\n".join(p for p in parts if p)
    with open(os.path.join(opts.out, "report.md"), "w", encoding="utf-8") as f:
        f.write(text)
    data = [{"table": c.table, "label": c.label, "rounds": g} for c, g in zip(todo, got)]
    with open(os.path.join(opts.out, "results.json"), "w", encoding="utf-8") as f:
        json.dump({"cases": data, "extras": extra_data}, f, indent=1)
    print(text)
    print(f"Report, plots and samples: {opts.out}")


if __name__ == "__main__":
    main()
