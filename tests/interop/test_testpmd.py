"""DPDK's virtio-user driver as the front-end, in all its ring paths: every frame
arrives byte for byte and in order, also after either side was killed.

One testpmd plays all paths at once. Each virtio-user port has a partner that
reads frames from a capture file and writes those that come back into another.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import time

import guest
import net
import pcap
import pytest
import testpmd
from testpmd import PATHS

FRAMES = 2500  # more than two rounds of a ring
RING = 1024
# Of each port: what is under way to one receiver before the switch has learned
# where it is, from all others, fits its ring.
TX_RING = 64

# Split beside packed, so that partners in the table differ in the kind of ring.
MIXED = [name for pair in zip([p for p in PATHS if p.startswith("split")],
                              [p for p in PATHS if p.startswith("packed")]) for name in pair]
MERGEABLE = [p for p in MIXED if p.endswith("mergeable")]
# One of each kind, for what is done to all of them by `make check-slow` only.
QUICK = ["split", "packed", "split vector", "packed vector"]

pytestmark = pytest.mark.skipif(not testpmd.PROGRAM, reason="dpdk-testpmd is not installed")


def make_ports(workdir, paths, listen=True, loopback=False):
    keys = {"loopback": "on"} if loopback else {}
    return [net.Port(f"p{i}", workdir, i, listen=listen, **keys) for i in range(len(paths))]


class FrontEnd(testpmd.Testpmd):
    """A testpmd with virtio-user ports on these ports of a switch, and for each a
    capture file that it sends and one that it writes. Port 2k of testpmd is the
    k-th, 2k+1 its files."""

    def __init__(self, workdir, name, ports, paths, mbuf=2176, longest=1518, frames=FRAMES):
        self.ports, self.seen = ports, {}
        vdevs = []
        for i, (port, path) in enumerate(zip(ports, paths)):
            sent, seen = workdir / f"{name}-{i}.out.pcap", workdir / f"{name}-{i}.in.pcap"
            partner = ports[i ^ 1] if len(ports) > 1 else port
            port.frames = pcap.conversation(port.mac, partner.mac, frames, longest, i)
            pcap.write(sent, port.frames)
            self.seen[port.name] = seen
            vdevs += [f"net_virtio_user{i},path={port.socket},queues=1,queue_size={RING},"
                      f"mac={port.mac},server={int(not port.listen)},{PATHS[path]}",
                      f"net_pcap{i},rx_pcap={sent},tx_pcap={seen}"]
        mbufs = 2 * RING * len(vdevs)
        self.small = mbuf < longest
        super().__init__(
            f"rbtest-fe{os.getpid()}", vdevs, workdir / f"{name}.log",
            memory=testpmd.memory_for(mbufs), eal=["--force-max-simd-bitwidth=512"],
            options=[f"--total-num-mbufs={mbufs}", f"--mbuf-size={mbuf}", f"--rxd={RING}",
                     f"--txd={TX_RING}", "--port-topology=paired", "--no-lsc-interrupt",
                     # What the files hold is not rubbish from an earlier run.
                     "--no-flush-rx",
                     *(["--disable-device-start"] if self.small else ["--tx-offloads=0"])])

    def __enter__(self):
        super().__enter__()
        if self.small:
            # net_pcap takes long frames as it is, and refuses to be asked.
            self(*(f"port config {2 * i} rx_offload scatter on" for i in range(len(self.ports))),
                 "port start all")
        return self

    def pass_all(self, expected):
        """Send all files, and wait until so many frames came back."""
        self.link_up(range(2 * len(self.ports)))
        self("set burst tx delay 100 retry 100000", "set fwd io retry", "start")

        before = -1

        def arrived():
            """So many, and no more are coming: those that a switch gave to
            everybody count as well."""
            nonlocal before
            stats, _ = self.port_stats()
            now = sum(stats[2 * i + 1]["tx"] for i in range(len(self.ports)))
            quiet, before = now == before, now
            time.sleep(0.2)
            return quiet and now >= expected

        guest.wait_until(arrived, 60, f"{expected} frames to come back")
        self("stop")


def check_loopback(front_end):
    for port in front_end.ports:
        assert pcap.read(front_end.seen[port.name]) == port.frames, port.name


def check_pairs(front_end):
    """Each port has what its partner sent to it, complete and in order. Frames to
    others may be there as well, from before the switch had learned."""
    for i, port in enumerate(front_end.ports):
        partner = front_end.ports[i ^ 1]
        seen = [f for f in pcap.read(front_end.seen[port.name])
                if f[:6] == pcap.mac_bytes(port.mac)]
        assert seen == [f for f in partner.frames if f[0] != 0xff], port.name


def run_front_end(workdir, name, ports, paths, loopback, **kwargs):
    with FrontEnd(workdir, name, ports, paths, **kwargs) as front_end:
        front_end.pass_all(sum(len(p.frames) for p in ports))
    if loopback:
        check_loopback(front_end)
    else:
        check_pairs(front_end)


@pytest.mark.parametrize("listen,loopback", [
    pytest.param(True, True, id="client-loopback"),
    pytest.param(True, False, id="client-pairs"),
    # A listening virtio-user waits for each connection before it makes the next
    # socket, and the switch tries again once a second.
    pytest.param(False, True, id="server-loopback", marks=pytest.mark.slow),
    pytest.param(False, False, id="server-pairs"),
])
def test_all_ring_paths_pass_frames_byte_for_byte(workdir, listen, loopback):
    ports = make_ports(workdir, MIXED, listen, loopback)
    with net.switch(workdir, ports):
        run_front_end(workdir, "all", ports, MIXED, loopback)


def test_frames_over_several_buffers(workdir):
    """Buffers of 512 bytes: a frame takes up to three of them, and as many
    descriptors when it is sent. This driver then takes frames in at half the rate
    at which it sends them, so all of them have room in its ring."""
    ports = make_ports(workdir, MERGEABLE)
    with net.switch(workdir, ports):
        run_front_end(workdir, "small", ports, MERGEABLE, False, mbuf=640, frames=RING // 3 - 20)


@pytest.mark.parametrize("paths,listen", [
    pytest.param(QUICK, True, id="client-some"),
    pytest.param(QUICK, False, id="server-some"),
    pytest.param(MIXED, True, id="client-all", marks=pytest.mark.slow),
    pytest.param(MIXED, False, id="server-all", marks=pytest.mark.slow),
])
def test_front_end_is_killed_and_another_takes_its_place(workdir, paths, listen):
    ports = make_ports(workdir, paths, listen)
    with net.switch(workdir, ports) as server:
        for nr in range(2):
            with FrontEnd(workdir, f"killed{nr}", ports, paths) as front_end:
                front_end.link_up(range(2 * len(paths)))
                front_end("set fwd io", "start tx_first 4")
                front_end.kill()
            if not listen:
                # It has left its sockets behind, and would not listen there again.
                for port in ports:
                    port.socket.unlink(missing_ok=True)
            server.check()
        run_front_end(workdir, "after", ports, paths, False)


def goes_round(front_end):
    """Send some frames, and see whether they go round: those that are sent while
    the connection is being made anew are lost."""
    front_end("stop", "clear port stats all", "start tx_first 8")
    time.sleep(0.2)
    return front_end.port_stats()[0][0]["rx"] > 4 * RING


@pytest.mark.parametrize("path", [
    p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in PATHS])
def test_switch_is_killed_and_the_front_end_goes_on(workdir, path):
    """virtio-user listens; the switch connects, is killed in the middle of
    traffic, and connects again when it is back. Where virtio-user connects, it
    does not do so a second time: nothing of ours is to be seen then."""
    ports = make_ports(workdir, [path], listen=False, loopback=True)
    port = ports[0]
    vdev = (f"net_virtio_user0,path={port.socket},queues=1,queue_size={RING},mac={port.mac},"
            f"server=1,{PATHS[path]}")
    server = net.switch(workdir, ports).start()
    try:
        with testpmd.Testpmd(f"rbtest-fe{os.getpid()}", [vdev], workdir / "front-end.log",
                             memory=testpmd.memory_for(4 * RING),
                             eal=["--force-max-simd-bitwidth=512"],
                             options=[f"--total-num-mbufs={4 * RING}", f"--rxd={RING}",
                                      f"--txd={RING}", "--tx-offloads=0"]) as front_end:
            for nr in range(3):
                front_end("set fwd io")
                guest.wait_until(lambda: goes_round(front_end), 30,
                                 f"frames to go round, time {nr}")
                if nr < 2:
                    server.kill()
                    server = net.switch(workdir, ports).start()
                front_end("stop")
    finally:
        server.kill()
