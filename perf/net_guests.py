# SPDX-License-Identifier: BSD-3-Clause
"""Kernel TCP between two guests with offloads on, over each server in turn.

Both guests have an interface on every server, so that all servers are measured
with the same guests, interleaved; those that have no turn stand still. QEMU
emulates in software here: the guests take most of the time, and rates say little
of a machine with KVM."""

import os
import signal
import statistics
import sys
import tempfile
import pathlib
from contextlib import ExitStack

import machine
import report
from net_servers import ROOT, NetVhost, Ovs, RingboltNet
from servers import ServerFailed

sys.path.append(os.path.join(ROOT, "tests", "vm"))

import guest  # noqa: E402
import net  # noqa: E402

SECONDS = 2
FAR = 16  # numbers of the second guest's interfaces begin here


class Contestant:
    """A server as a column: what it is called, and how it is started."""

    def __init__(self, name, cls, **options):
        self.name, self.cls, self.options = name, cls, options
        self.server = self.ports = None

    def attach(self, index, server):
        self.server = server
        self.ports = [FakePort(f"{'ab'[i]}{index}", pathlib.Path(path), i * FAR + index,
                               not server.front_end_listens)
                      for i, path in enumerate(server.sockets)]

    def signal(self, number):
        for pid in self.server.pids():
            os.kill(pid, number)


class FakePort:
    """What net.nic_arguments() wants to know."""

    def __init__(self, name, path, number, listen):
        self.name, self.socket, self.mac, self.queues = name, path, net.mac(number), 1
        self.listen, self.number = listen, number


def contestants(usable):
    every = [Contestant("ringbolt-net", RingboltNet, poll="busy"),
             Contestant("ringbolt-net, adaptive", RingboltNet, poll="adaptive"),
             Contestant("OVS-DPDK", Ovs), Contestant("net_vhost", NetVhost)]
    return [c for c in every if c.cls in usable]


def pin(process, cpus):
    """All threads of QEMU, which timeout(1) has started."""
    for pid in guest.children_of(process.popen.pid):
        for tid in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(tid), cpus)


def boot(name, initrd, folder, ports, seconds):
    """A guest that is used for so long."""
    m = guest.Qemu(name, folder, initrd, "net", memory=384)
    m.lifetime += seconds
    for port in ports:
        m.extra += net.nic_arguments(m, port)
    return m.start([])


def rate(one, other, contestant, i):
    """Mbit/s from one guest to the other over a contestant's server."""
    there = contestant.ports[1 - i].number
    one.order("rate", "pour4", contestant.ports[i].number, there, SECONDS)
    return float(one.values("RATE")["mbit_s"])


def sample(opts, all_of_them, guests, contestant):
    """Rates both ways, and the CPU time of the server, with the others asleep."""
    contestant.signal(signal.SIGCONT)
    before = [machine.process_cpu(p) for p in contestant.server.pids()]
    rates = [rate(guests[i], guests[1 - i], contestant, i) for i in (0, 1)]
    after = [machine.process_cpu(p) for p in contestant.server.pids()]
    contestant.signal(signal.SIGSTOP)
    return {"mbit_s": sum(rates) / 2, "each": rates,
            "cpu": (sum(after) - sum(before)) / (2 * SECONDS)}


def run(opts, folder, usable):
    """{placement: {contestant: [sample, ...]}}."""
    cpus = {opts.server_cpu, opts.bench_cpu}
    placements = {f"guests on CPU {opts.bench_cpu}, server on {opts.server_cpu}":
                  ({opts.bench_cpu}, {opts.bench_cpu}),
                  f"a guest on each CPU, server on {opts.server_cpu}":
                  ({opts.bench_cpu}, {opts.server_cpu}),
                  "guests on both CPUs as the kernel likes": (cpus, cpus)}
    todo = contestants(usable)
    initrd = net.build_initrd(folder)
    got = {}
    with ExitStack() as stack:
        for index, c in enumerate(todo):
            scratch = folder / str(index)
            scratch.mkdir()
            c.attach(index, stack.enter_context(c.cls(
                scratch=str(scratch), cpu=opts.server_cpu, nr_devices=2, offloads=True,
                huge=opts.huge_dir, **c.options)))
            # Or none of those that stand still could be ended.
            stack.callback(c.signal, signal.SIGCONT)
        # Of each sample as much again for what is not measured.
        seconds = opts.rounds * len(todo) * len(placements) * 2 * SECONDS * 2
        guests = [stack.enter_context(boot(f"guest{i}", initrd, folder,
                                           [c.ports[i] for c in todo], seconds)) for i in (0, 1)]
        for i, m in enumerate(guests):
            m.wait_for("READY")
            for c in todo:
                m.order("nic", c.ports[i].number, 1500)
        for c in todo:
            c.signal(signal.SIGSTOP)
        for c in todo:
            c.signal(signal.SIGCONT)
            guests[0].order("sweep", "tcp4", 100000, c.ports[0].number, c.ports[1].number,
                            timeout=90)
            if " result=ok " not in guests[0].marks("NET")[-1]:
                raise ServerFailed(f"no TCP over {c.name}: {guests[0].marks('NET')[-1]}")
            c.signal(signal.SIGSTOP)
        for where, (one, other) in placements.items():
            pin(guests[0].process, one)
            pin(guests[1].process, other)
            got[where] = {c.name: [] for c in todo}
            for nr in range(opts.rounds):
                for c in todo if nr % 2 == 0 else reversed(todo):
                    got[where][c.name].append(sample(opts, todo, guests, c))
                    print(f"{where}: {c.name}: {got[where][c.name][-1]['mbit_s']:.0f} Mbit/s",
                          file=sys.stderr, flush=True)
        for c in todo:
            c.signal(signal.SIGCONT)
    return got


def measure(opts, usable):
    """(markdown, data)."""
    with tempfile.TemporaryDirectory(prefix="rbperf-vm.") as folder:
        try:
            got = run(opts, pathlib.Path(folder), usable)
        except (guest.GuestError, guest.Unavailable, ServerFailed, OSError) as e:
            return f"## TCP between guests\n\nCould not be measured: {e}\n", {"failed": str(e)}
    rows, goals = [], []
    for where, samples in got.items():
        for name, taken in samples.items():
            lo, mid, hi = report.spread([s["mbit_s"] for s in taken])
            cpu = statistics.median(s["cpu"] for s in taken)
            rows.append([f"{where}: {name}", len(taken), f"{lo:.0f}", f"{mid:.0f}", f"{hi:.0f}",
                         f"{cpu:.0%}"])
            for mine in ("ringbolt-net", "ringbolt-net, adaptive"):
                ours = samples.get(mine, [])
                if not ours or name not in ("OVS-DPDK", "net_vhost"):
                    continue
                ratio = statistics.median(a["mbit_s"] / b["mbit_s"] for a, b in zip(ours, taken))
                goals.append(f"- {where}: {mine}: {ratio:.2f} x {name} (target 1.2: "
                             f"{'reached' if ratio >= 1.2 else 'missed'})")
    return ("## TCP between guests\n\nLinux under QEMU, software emulation, one virtual CPU each, "
            "all offloads that the server has, mean of both directions.\n\n" +
            report.table(["where: server", "samples", "min Mbit/s", "median", "max",
                          "server CPU"], rows) +
            "\n\nRatios pair by pair, their medians:\n\n" + "\n".join(goals) + "\n"), got
