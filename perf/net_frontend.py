# SPDX-License-Identifier: BSD-3-Clause
"""The front-end of the network comparison: DPDK's virtio-user driver under
testpmd, the same for every server, and what its counters say."""

import os
import signal
import time
from contextlib import contextmanager

import testpmd
from servers import ServerFailed

RING = 1024
# Of 32 frames, in flight from each port: nearly a ring's worth, as a burst that
# finds a full ring is lost.
BURSTS = 30


def mac(port):
    return f"02:00:00:00:01:{port:02x}"


@contextmanager
def frozen(pids):
    """These processes stand still, so that the CPUs are free to be measured."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class FrontEnd:
    """A testpmd with one virtio-user port on each socket. Frames that come in are
    sent out unchanged: of the same port (loopback), or of its partner, so that
    each keeps going from port 2k to port 2k+1 or back, with addresses by which a
    switch finds the way. Use with "with"."""

    def __init__(self, server, path, scratch, cpu, huge=None):
        self.server = server
        self.nr = len(server.sockets)
        self.loopback = server.loopback
        packed_vector = path == "packed vector"
        vdevs, options = [], []
        for i, sock in enumerate(server.sockets):
            vdevs.append(f"net_virtio_user{i},path={sock},queues={server.queues},"
                         f"queue_size={RING},mac={mac(i)},{testpmd.PATHS[path]}")
            options.append(f"--eth-peer={i},{mac(i if self.loopback else i ^ 1)}")
        mbufs = 4096 + 3 * RING * self.nr * server.queues
        self.testpmd = testpmd.Testpmd(
            f"rbperf-fe{os.getpid()}", vdevs, os.path.join(scratch, "front-end.log"), cpu=cpu,
            huge=huge, memory=testpmd.memory_for(mbufs),
            eal=["--force-max-simd-bitwidth=512"] if packed_vector else [],
            options=[*options, f"--total-num-mbufs={mbufs}", f"--rxd={RING}", f"--txd={RING}",
                     f"--rxq={server.queues}", f"--txq={server.queues}", "--tx-offloads=0",
                     "--no-lsc-interrupt",
                     "--port-topology=" + ("loop" if self.loopback else "paired")])

    def __enter__(self):
        try:
            self.testpmd.__enter__()
            self.testpmd.link_up(range(self.nr))
            self.settle()
        except testpmd.TestpmdFailed as e:
            self.testpmd.__exit__()
            raise ServerFailed(f"front-end: {e}") from None
        return self

    def settle(self):
        """Until frames go round between all ports: Open vSwitch wants a second or
        more for a new port, and a switch has to learn where they are."""
        end = time.monotonic() + 20
        while True:
            self.begin(64)
            time.sleep(0.1)
            stats, _ = self.testpmd.port_stats()
            lost = self.end()
            # The vector paths leave a few frames behind that make no batch.
            if lost < 0.05 and min(s["rx"] for s in stats.values()) > RING:
                return
            if time.monotonic() > end:
                raise testpmd.TestpmdFailed(f"frames do not go round: {stats}, {lost:.0%} lost")
            time.sleep(0.5)

    def __exit__(self, *exc):
        self.testpmd.__exit__(*exc)

    def pids(self):
        return [self.testpmd.pid]

    def begin(self, size):
        """Put frames of this size on their way round."""
        self.testpmd("clear port stats all", f"set txpkts {size}", "set fwd io",
                     f"start tx_first {BURSTS}", timeout=60)

    def rate(self, seconds):
        """What went round meanwhile: {"fps": frames received a second, all ports
        together, "ports": the same of each, "busy": share of the time in turns
        that moved frames, "cycles": of those turns, a frame}."""
        cycles = self.testpmd.cycles()
        before, t0 = self.testpmd.port_stats()
        time.sleep(seconds)
        after, t1 = self.testpmd.port_stats()
        spent = self.testpmd.cycles()
        ports = [(after[p]["rx"] - before[p]["rx"]) / (t1 - t0) for p in range(self.nr)]
        r = {"fps": sum(ports), "ports": ports, "errors": 0}
        if cycles and spent and spent[1] > cycles[1]:
            r["hz"] = spent[2]
            r["busy"] = (spent[0] - cycles[0]) / spent[2] / (t1 - t0)
            r["cycles"] = (spent[0] - cycles[0]) / (spent[1] - cycles[1])
        return r

    def end(self):
        """Stop, take in what is still on its way, and say which share of the
        frames that were put on their way did not survive."""
        self.testpmd("stop")
        before, _ = self.testpmd.port_stats()
        self.testpmd("set fwd rxonly", "start")
        time.sleep(0.1)
        self.testpmd("stop")
        after, _ = self.testpmd.port_stats()
        alive = sum(after[p]["rx"] - before[p]["rx"] for p in range(self.nr))
        return max(0.0, 1 - alive / (BURSTS * 32 * self.nr))

