"""Networks for the tests: a switch with ports for guests and other front-ends.

Used by the tests of tests/vm and tests/interop. RINGBOLT_NET_BACKEND=testpmd puts
DPDK's net_vhost in the switch's place, where frames pass between ports two by
two, to see whether a failure is the switch's or the test's own.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import pathlib
import signal
import subprocess
import sys

import guest
from guest import assets, initramfs

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "interop"))
import testpmd  # noqa: E402


MODULES = ("ipv6", "virtio_net", "8021q")
PROGRAMS = ("ip", "ethtool")

# What a device of QEMU is told not to offer. Whoever has no checksums has no
# large segments either: VIRTIO 1.3, "Feature bit requirements".
NO_SEGMENTS = {f"{side}_{what}": "off" for side in ("host", "guest")
               for what in ("tso4", "tso6", "ecn", "ufo")}
NO_CHECKSUMS = {**NO_SEGMENTS, "csum": "off", "guest_csum": "off"}
OFFLOADS = {"all": {}, "csum": NO_SEGMENTS, "none": NO_CHECKSUMS}


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


def nic_arguments(machine, port, *, packed=False, **properties):
    """QEMU's arguments for a network interface of a machine on a port."""
    chardev = f"socket,id=c_{port.name},path={port.socket}"
    chardev += f",{machine.reconnect}" if port.listen else ",server=on,wait=off"
    device = {"netdev": f"n_{port.name}", "id": port.name, "mac": port.mac, "romfile": "",
              "packed": "on" if packed else "off", **properties}
    if port.queues > 1:
        device["mq"] = "on"
    # QEMU 7.2 dies of a vhost-user-net device's MSI-X under software emulation,
    # whatever the back-end: it takes KVM for granted.
    device["vectors"] = 0 if is_old(machine) else 2 * port.queues + 2
    return ["-chardev", chardev,
            "-netdev", f"vhost-user,id=n_{port.name},chardev=c_{port.name},queues={port.queues}",
            "-device", "virtio-net-pci," + ",".join(f"{k}={v}" for k, v in device.items())]


def is_old(machine):
    """The QEMU of this machine is 7.2."""
    return "qemu7" in " ".join(machine.command)


def without_uso(machine):
    """Properties that only newer QEMUs know."""
    return {} if is_old(machine) else {
        f"{name}": "off" for name in ("host_uso", "guest_uso4", "guest_uso6")}


def guest_files(workdir):
    """What of tests/vm/guest goes into these guests."""
    program = workdir / "netcheck"
    subprocess.run(["cc", "-O2", "-static", "-o", program, HERE / "guest/netcheck.c"], check=True)
    return {"init": HERE / "guest/init", "bin/netcheck": program,
            **{f"tests/{name}.sh": HERE / f"guest/{name}.sh" for name in ("lib", "net", "netrss", "netuml")}}


def build_initrd(workdir):
    """The initramfs of guests with networks."""
    return initramfs.build(workdir / "initrd-net.cpio", [guest.kernel_modules()], MODULES,
                           PROGRAMS, guest_files(workdir))


def build_uml_initrd(workdir):
    """The same for User-mode Linux."""
    root, release = assets.locate("uml")
    return initramfs.build(workdir / "initrd-net-uml.cpio",
                           [root / "usr/lib/uml/modules" / release], MODULES, PROGRAMS,
                           guest_files(workdir))


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
        return vhost + [u.split("dev=", 1)[1].split(",")[0].replace(";", ",") for u in self.uplinks]

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


class Namespace:
    """A network namespace of the host with one interface, which has addresses
    that follow from its number as in guest/net.sh, and answers netcheck. Needs
    root. Use with "with"; the interface is given to it with take()."""

    def __init__(self, workdir, number):
        self.number, self.workdir = number, workdir
        self.name = f"rbtest{os.getpid()}-{number}"
        self.netcheck = workdir.parent / "netcheck"
        self.server = None

    def ip(self, *args):
        guest.debs.run(["ip", *args])

    def __enter__(self):
        self.ip("netns", "add", self.name)
        return self

    def __exit__(self, *_):
        if self.server:
            self.server.kill()
        self.ip("netns", "del", self.name)

    def veth(self, offloads=False):
        """Make a pair with one end in here; the name of the other one. Without
        offloads what it sends is complete, as on a wire."""
        outside = f"rbt{os.getpid() % 100000}v{self.number}"
        self.ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        self.ip("link", "set", outside, "up")
        if not offloads:
            self.run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")
        self.set_up()
        return outside

    def take(self, interface):
        """Move an interface in here."""
        self.ip("link", "set", interface, "netns", self.name, "name", "eth0")
        self.set_up()

    def set_up(self):
        n = self.number + 1
        for words in (("link", "set", "lo", "up"),
                      ("link", "set", "eth0", "address", mac(self.number), "up"),
                      ("addr", "add", f"10.0.0.{n}/24", "dev", "eth0"),
                      ("addr", "add", f"fd00::{n}/64", "dev", "eth0", "nodad")):
            self.ip("-n", self.name, *words)
        self.server = guest.Process("netcheck", [str(self.netcheck), "serve", "7",
                                                 f"/run/netns/{self.name}"],
                                    self.workdir / f"netcheck{self.number}.log")

    def run(self, *argv):
        return guest.debs.run(["ip", "netns", "exec", self.name, *argv])

    def check(self, kind, number, size):
        """What netcheck says of a stream or datagrams to that number."""
        address = f"10.0.0.{number + 1}" if kind.endswith("4") else f"fd00::{number + 1}"
        done = subprocess.run([self.netcheck, kind[:-1], address, "7", str(size),
                               f"/run/netns/{self.name}"], text=True, timeout=90,
                              stdout=subprocess.PIPE)
        return done.stdout.strip()
