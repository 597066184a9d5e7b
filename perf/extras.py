# SPDX-License-Identifier: BSD-3-Clause
"""What is not a rate: time to listen, resident memory, CPU use when idle, and what
the first request after idling costs (first_request.py)."""

import statistics
import subprocess
import time

import first_request
import machine
import report
from servers import Qsd, Ringbolt, ServerFailed

STARTS = 9
IDLE_SECONDS = 2.5
NULL = ("null", 1 << 30, False)


def servers():
    return [s for s in (Ringbolt, Qsd) if s.binary]


def start_time(opts, scratch):
    """{server: [ms until it listens, ...]}, one device with 4 queues."""
    out = {}
    for cls in servers():
        out[cls.name] = []
        for _ in range(STARTS):
            with cls(NULL, scratch=scratch, cpu=opts.server_cpu, queues=4) as s:
                out[cls.name].append(s.started_ms)
    return out


def memory(opts, sampler, scratch):
    """{server: bytes resident without guest memory}, one device, 4 queues of 256,
    while they are in use."""
    out = {}
    for cls in servers():
        with cls(NULL, scratch=scratch, cpu=opts.server_cpu, queues=4) as s:
            p = subprocess.Popen([sampler.bench, "--socket", s.sockets[0], "--queues", "4",
                                  "--ring-size", "256", "--depth", "64", "--seconds", "1",
                                  "--cpu", str(opts.bench_cpu)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(0.9)
            out[cls.name] = machine.resident(s.pid)[0]
            p.wait()
    return out


def idle(opts, sampler, scratch, nr):
    """CPU share of a server with nr connected devices that do nothing."""
    out = {}
    for cls in servers():
        with cls(NULL, scratch=scratch, cpu=opts.server_cpu, nr_devices=nr) as s:
            cmd = [sampler.bench, "--cpu", str(opts.bench_cpu), "--depth", "1", "--warmup", "0",
                   "--count", "1", "--pause-us", str(int((IDLE_SECONDS + 1.5) * 1e6))]
            for path in s.sockets:
                cmd += ["--socket", path]
            p = subprocess.Popen(cmd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Connected, one request each served, and settled.
            time.sleep(1.2)
            before = machine.process_cpu(s.pid)
            time.sleep(IDLE_SECONDS)
            out[cls.name] = (machine.process_cpu(s.pid) - before) / IDLE_SECONDS
            p.kill()
            p.wait()
    return out


def measure(opts, sampler, scratch):
    """(markdown, data)."""
    data = {}
    for key, fn in (("start_ms", lambda: start_time(opts, scratch)),
                    ("resident", lambda: memory(opts, sampler, scratch)),
                    ("idle_1", lambda: idle(opts, sampler, scratch, 1)),
                    ("idle_32", lambda: idle(opts, sampler, scratch, 32)),
                    ("first_request", lambda: first_request.measure(opts, sampler, scratch,
                                                                    servers(), NULL))):
        try:
            data[key] = fn()
        except (ServerFailed, OSError, TypeError) as e:
            data[key] = {"failed": str(e)}
    return markdown(opts, data), data


def markdown(opts, data):
    names = [s.name for s in servers()]

    def row(label, target, key, text):
        values = data[key]
        if "failed" in values:
            return [label, target] + [values["failed"]] * len(names)
        return [label, target] + [text(values[n]) for n in names]

    rows = [
        row("listening after start, median (max) ms", "50", "start_ms",
            lambda v: f"{statistics.median(v):.1f} ({max(v):.1f})"),
        row("resident, 4 queues of 256 in use, MiB", "20", "resident",
            lambda v: f"{v / (1 << 20):.1f}"),
        row("idle CPU, 1 device", "0 %", "idle_1", lambda v: f"{v:.3%}"),
        row("idle CPU, 32 devices", "0 %", "idle_32", lambda v: f"{v:.3%}"),
    ]
    return (f"## Start, memory, idle (--poll={opts.poll})\n\n" +
            report.table(["what", "target"] + names, rows) + "\n\n" + first(data["first_request"]))


def first(data):
    if "failed" in data:
        return f"## The first request after idling\n\nNot measured: {data['failed']}\n"
    return first_request.markdown(data)
