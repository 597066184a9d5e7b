"""DPDK's testpmd, driven over its command line: the virtio-user driver as a
front-end, and net_vhost as a back-end to compare with.

Used by the tests of tests/interop and by perf/. A Testpmd is one process; every
command waits for the prompt that follows its output. Nothing here needs
hugepages, PCI devices or root.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import re
import selectors
import shutil
import signal
import subprocess
import time

PROGRAM = shutil.which("dpdk-testpmd")
PROMPT = b"testpmd> "

# How the driver's ten receive and transmit paths are chosen: name -> (device
# arguments, command line options). The driver needs AVX-512 for the last one
# and takes the plain path without it. DPDK, "Poll Mode Driver for Emulated
# Virtio NIC", "Virtio paths Selection and Usage".
PATHS = {
    "split mergeable": "packed_vq=0,mrg_rxbuf=1,in_order=0",
    "split": "packed_vq=0,mrg_rxbuf=0,in_order=0",
    "split vector": "packed_vq=0,mrg_rxbuf=0,in_order=0,vectorized=1",
    "split in-order mergeable": "packed_vq=0,mrg_rxbuf=1,in_order=1",
    "split in-order": "packed_vq=0,mrg_rxbuf=0,in_order=1",
    "packed mergeable": "packed_vq=1,mrg_rxbuf=1,in_order=0",
    "packed": "packed_vq=1,mrg_rxbuf=0,in_order=0",
    "packed in-order mergeable": "packed_vq=1,mrg_rxbuf=1,in_order=1",
    "packed in-order": "packed_vq=1,mrg_rxbuf=0,in_order=1",
    "packed vector": "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
}


def memory_for(mbufs):
    """MiB that testpmd needs for this many mbufs of the usual size: no object of
    a pool lies across two pages, and without hugepages a page holds one."""
    return 128 + mbufs * 4096 // (1 << 20)


class TestpmdFailed(Exception):
    """testpmd did not start, ended, or said no."""


class Testpmd:
    """One interactive testpmd. Use with "with".

    name is its --file-prefix and must be its own; cpu pins it, main thread and
    forwarding thread alike; huge is a folder of hugetlbfs to use instead of
    ordinary pages; memory is in MiB."""

    __test__ = False  # not for pytest

    def __init__(self, name, vdevs, log, *, cpu=None, options=(), eal=(), memory=256, huge=None):
        self.name, self.vdevs, self.log, self.cpu = name, list(vdevs), log, cpu
        self.options, self.eal, self.memory, self.huge = list(options), list(eal), memory, huge
        self.process = None
        self.output = b""
        self.started = None

    def command(self):
        lcores = "0,1" if self.cpu is None else f"0@{self.cpu},1@{self.cpu}"
        # Its answers go through stdio and its prompt does not: without stdbuf the
        # prompt would come first.
        cmd = ["stdbuf", "-oL", PROGRAM, "--lcores", lcores, "--no-pci", "--file-prefix", self.name,
               "--no-telemetry", "-m", str(self.memory)]
        # One region of guest memory, as vhost-user has it: --no-huge makes one
        # memfd, --single-file-segments one file of all hugepages.
        cmd += (["--in-memory", "--single-file-segments", "--huge-dir", self.huge] if self.huge
                else ["--no-huge"])
        for vdev in self.vdevs:
            cmd += ["--vdev", vdev]
        # Links come up when the other side connects: link_up() waits for that.
        return [*cmd, *self.eal, "--", "-i", "--disable-link-check", "--no-mlockall",
                "--nb-cores=1", "--record-core-cycles", *self.options]

    def __enter__(self):
        if not PROGRAM:
            raise TestpmdFailed("dpdk-testpmd is not installed (dpdk-dev)")
        with open(self.log, "ab") as log:
            log.write((" ".join(self.command()) + "\n").encode())
            self.process = subprocess.Popen(self.command(), stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, bufsize=0,
                                            start_new_session=True)
        os.set_blocking(self.process.stdout.fileno(), False)
        try:
            self.wait_prompt(60)
        except TestpmdFailed:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            try:
                self.process.stdin.write(b"quit\n")
                self.drain_until_end(10)
            except (OSError, TestpmdFailed):
                pass
        self.kill()

    def kill(self):
        """End it at once, as a crash would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:
                pass
        # What it would have removed itself.
        base = os.environ.get("XDG_RUNTIME_DIR", "/tmp") if os.getuid() else "/var/run"
        shutil.rmtree(os.path.join(base, "dpdk", self.name), ignore_errors=True)

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process.poll() is None

    def _read(self, timeout):
        """What it said within the timeout; empty: nothing; None: it has ended."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(timeout):
                return b""
        data = self.process.stdout.read(65536)
        if data:
            with open(self.log, "ab") as log:
                log.write(data)
        return data or None

    def wait_prompt(self, timeout=30):
        """The text up to the next prompt."""
        end = time.monotonic() + timeout
        while True:
            text, prompt, rest = self.output.partition(PROMPT)
            if prompt:
                self.output = rest
                return text.decode(errors="replace")
            data = self._read(min(1.0, max(0.0, end - time.monotonic())))
            if data is None:
                raise TestpmdFailed(f"testpmd {self.name} has ended: {self.tail()}")
            self.output += data
            if not data and time.monotonic() > end:
                raise TestpmdFailed(f"testpmd {self.name} did not answer: {self.tail()}")

    def drain_until_end(self, timeout):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self._read(0.2) is None:
                return
        raise TestpmdFailed(f"testpmd {self.name} did not end")

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return " | ".join(line for line in f.read().splitlines() if line.strip())[-600:]

    def __call__(self, *commands, timeout=30):
        """Carry out commands; what the last one printed. What had been said
        unasked before belongs to none of them."""
        text = ""
        for command in commands:
            self.process.stdin.write(command.encode() + b"\n")
            # With a pipe as its terminal it echoes the line, newline included.
            text = self.wait_prompt(timeout)
        return text

    def port_stats(self):
        """{port: {"rx": packets, "tx": packets, ...}} and when they were read."""
        now = time.monotonic()
        text = self("show port stats all")
        found = {}
        for block in re.split(r"NIC statistics for port ", text)[1:]:
            values = {k: int(v) for k, v in re.findall(r"([RT]X-[a-z]+): *(\d+)", block)}
            found[int(block.split()[0])] = {
                "rx": values["RX-packets"], "tx": values["TX-packets"],
                "rx_bytes": values["RX-bytes"], "tx_bytes": values["TX-bytes"]}
        return found, now

    def cycles(self):
        """(cycles of turns that moved packets, packets, cycles a second) since
        "start", counted while record-core-cycles is on; None if it does not say."""
        found = re.findall(r"CPU cycles/packet=[\d.]+ \(total cycles=(\d+) / total \w+ "
                           r"packets=(\d+)\) at (\d+) MHz", self("show fwd stats all"))
        if not found:
            return None
        return int(found[-1][0]), int(found[-1][1]), int(found[-1][2]) * 1e6

    def link_up(self, ports, timeout=30):
        """Wait until the link of all these ports is up."""
        end = time.monotonic() + timeout
        while True:
            text = self("show port summary all")
            up = {int(n) for n in re.findall(r"^(\d+)\s.*\bup\b", text, re.M)}
            if set(ports) <= up:
                return
            if time.monotonic() > end:
                raise TestpmdFailed(f"ports {sorted(set(ports) - up)} have no link")
            time.sleep(0.05)
