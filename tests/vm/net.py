"""Networks for the tests: a switch with ports for guests and other front-ends.

Used by the tests of tests/vm and tests/interop. RINGBOLT_NET_BACKEND=testpmd puts
DPDK's net_vhost in the switch's place, where frames pass between ports two by
two, to see whether a failure is the switch's or the test's own.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import guest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))
import testpmd  # noqa: E402


def mac(number):
    """The address of the guest's end of a port."""
    return f"02:52:42:00:{number >> 8:02x}:{number & 255:02x}"


class Port:
    """A port of a switch behind a vhost-user socket. listen: the switch listens
    and the front-end connects; else the other way round."""

    def __init__(self, name, workdir, number, queues=1, listen=True, **keys):
        self.name, self.queues, self.listen, self.keys = name, queues, listen, keys
        self.socket = workdir / f"{name}.sock"
        self.mac = mac(number)


class RingboltNet(guest.Backend):
    """A running ringbolt-net. uplinks: options of --uplink."""

    program_name = "ringbolt-net"

    def __init__(self, workdir, ports, uplinks=(), options=()):
        super().__init__(workdir, "net", [p.socket for p in ports if p.listen], options)
        self.ports, self.uplinks = list(ports), list(uplinks)

    def argv(self):
        argv = [str(self.program), "--control", str(self.control), *self.options]
        for port in self.ports:
            keys = {"name": port.name, "socket": port.socket, "queues": port.queues,
                    **({} if port.listen else {"mode": "client"}), **port.keys}
            argv += ["--port", ",".join(f"{k}={v}" for k, v in keys.items())]
        for uplink in self.uplinks:
            argv += ["--uplink", uplink]
        return argv

    def port_status(self, name):
        """What status says about a port."""
        return next(p for p in self.status()["ports"] if p["name"] == name)


class TestpmdNet(RingboltNet):
    """testpmd in the same role, as far as that goes. Uplinks are devices of DPDK."""

    __test__ = False

    def argv(self):
        command = testpmd.Testpmd(
            f"rbtest{os.getpid()}-{id(self) & 0xffff}", self.vdevs(), "/dev/null",
            memory=testpmd.memory_for(self.mbufs()),
            options=["--auto-start", "--forward-mode=io", "--no-lsc-interrupt",
                     f"--total-num-mbufs={self.mbufs()}", "--rxq=1", "--txq=1",
                     "--port-topology=" + ("loop" if self.loops() else "paired")]).command()
        # Not interactive, and until it is told to end.
        command.remove("-i")
        return [*command, "--stats-period", "1000"]

    def mbufs(self):
        return 4096 * (2 + len(self.ports) + len(self.uplinks))

    def loops(self):
        return any(p.keys.get("loopback") == "on" for p in self.ports)

    def vdevs(self):
        vhost = [f"net_vhost{i},iface={p.socket},queues=1,client={int(not p.listen)},tso=1"
                 for i, p in enumerate(self.ports)]
        return vhost + [u.split("dev=", 1)[1] for u in self.uplinks]

    def start(self):
        self.program = pathlib.Path(testpmd.PROGRAM or "/nonexistent")
        for port in self.ports:
            if port.listen:
                port.socket.unlink(missing_ok=True)
        return super().start()

    def stop(self):
        self.process.signal(signal.SIGINT)
        self.process.wait(15)

    def status(self):
        return {}


def switch(workdir, ports, uplinks=(), options=()):
    if os.environ.get("RINGBOLT_NET_BACKEND") == "testpmd":
        return TestpmdNet(workdir, ports, uplinks, options)
    return RingboltNet(workdir, ports, uplinks, options)
