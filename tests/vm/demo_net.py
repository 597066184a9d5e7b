"""The second half of `make demo`: two Linux guests on a switch that ringbolt-net
serves ping each other and move TCP, between them and to a host behind an uplink.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import subprocess

import guest
import net

HOST = 199  # the number of the host's end, as guests have numbers
TCP_BYTES = 64 << 20
PORT = 7


class Host:
    """A network namespace that stands for another host, behind a TAP device."""

    def __init__(self, workdir):
        self.name, self.tap = f"rbdemo{os.getpid()}", f"rbtap{os.getpid() % 100000}"
        self.netcheck = workdir / "netcheck"
        self.server = None

    def ip(self, *words):
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def __enter__(self):
        self.ip("netns", "add", self.name)
        return self

    def plug(self):
        """Once the uplink has made the TAP device."""
        guest.wait_until(lambda: os.path.exists(f"/sys/class/net/{self.tap}"), 20, self.tap)
        self.ip("link", "set", self.tap, "netns", self.name)
        self.ip("-n", self.name, "addr", "add", f"10.0.0.{HOST + 1}/24", "dev", self.tap)
        self.ip("-n", self.name, "link", "set", self.tap, "up")
        self.server = subprocess.Popen([self.netcheck, "serve", str(PORT),
                                        f"/run/netns/{self.name}"])

    def __exit__(self, *_):
        if self.server:
            subprocess.run(["pkill", "-P", str(self.server.pid)], check=False)
            self.server.kill()
            self.server.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def talk(first, second, step):
    """Ping and TCP both ways; what was seen."""
    seen = {}
    for machine, here in ((first, 1), (second, 2)):
        machine.wait_for("READY")
        machine.order("nic", here, 1500)
    step("guests: found their network interfaces")
    first.order("ping", 1, 2)
    seen["ping"] = first.values("PING")["ms"]
    step(f"guest vm1: pings vm2, {seen['ping']} ms")
    for name, there in (("vm2", 2), ("host", HOST)):
        first.order("sweep", "tcp4", TCP_BYTES, 1, there, timeout=180)
        line = first.marks("NET")[-1]
        if " result=ok " not in line:
            raise guest.GuestError(f"TCP from vm1 to {name}: {line}")
        step(f"guest vm1: {TCP_BYTES >> 20} MiB by TCP to {name} and back, every byte compared")
    first.order("ping", 1, HOST)
    second.order("ping", 2, HOST)
    seen["host"] = second.values("PING")["ms"]
    step("guests: both ping the host behind the uplink")
    for machine in (first, second):
        machine.tell("end")
        machine.wait_end()
    return seen


def report(status, seen):
    lines = [f"    {p['name']:<14} {c['in-frames']} frames in, {c['out-frames']} out, "
             f"{sum(c['drops'].values())} dropped"
             for p in status["ports"] for c in [p["switch"]["counters"]]]
    print(f"""
  Ringbolt connected two virtual machines and a host
    ping           {seen['ping']} ms between the guests, {seen['host']} ms to the host
""" + "\n".join(lines) + """

  To connect VMs of your own:
    ringbolt-net --port name=vm1,socket=/run/vm1-net.sock --port name=vm2,socket=/run/vm2-net.sock \\
                 --uplink 'name=up0,dev=net_tap0;iface=tap0'

  QEMU (the guest's memory must be shared, as for a disk):
    -chardev socket,id=n0,path=/run/vm1-net.sock,reconnect-ms=500
    -netdev vhost-user,id=net0,chardev=n0 -device virtio-net-pci,netdev=net0
""")


def demonstrate(workdir, step):
    if os.geteuid():
        step("networks: skipped, a TAP device and network namespaces need root")
        return
    initrd = net.build_initrd(workdir)
    ports = [net.Port(f"vm{n}", workdir, n) for n in (1, 2)]
    with Host(workdir) as host:
        uplink = f"name=up0,dev=net_tap0;iface={host.tap},link=up"
        with net.RingboltNet(workdir, ports, [uplink]) as server:
            host.plug()
            step("started ringbolt-net: two ports, and an uplink to a host")
            machines = []
            for port in ports:
                machine = guest.Qemu(port.name, workdir, initrd, "net", memory=256)
                machine.extra += net.nic_arguments(machine, port)
                machines.append(machine)
            with machines[0].start([], server) as first, machines[1].start([], server) as second:
                seen = talk(first, second, step)
            status = server.status()
            server.stop()
            step("ended ringbolt-net")
    report(status, seen)
