"""Real guests on one switch: kernel TCP and UDP between them, every byte
compared, with all mixes of rings, queues, offloads, buffers, MTUs and addresses.

Two guests under two versions of QEMU, each with an interface of every kind: all
combinations are pairs of interfaces, so one boot is enough for all of them.

SPDX-License-Identifier: BSD-3-Clause
"""
import itertools

import guest
import net
from conftest import need_qemu

MTU = 9000
FAR = 16  # numbers of the second guest's interfaces begin here


class Nic:
    """An interface of a guest: what it may offload, and into what buffers."""

    def __init__(self, workdir, number, kind, mergeable, packed, queues=1, mtu=MTU):
        self.number, self.kind, self.mergeable, self.packed = number, kind, mergeable, packed
        self.port = net.Port(f"p{number}", workdir, number, queues=queues, mtu=mtu)

    def arguments(self, machine):
        properties = {**net.OFFLOADS[self.kind],
                      **({} if self.kind == "all" else net.without_uso(machine)),
                      "mrg_rxbuf": "on" if self.mergeable else "off",
                      "host_mtu": self.port.keys.get("mtu", MTU)}
        return net.nic_arguments(machine, self.port, packed=self.packed, **properties)


def nics(workdir, first, swapped):
    """One interface of each kind. Rings are split and packed in turn, so that in
    both guests together every mix of all occurs."""
    kinds = itertools.product(net.OFFLOADS, (True, False))
    return [Nic(workdir, first + i, kind, mergeable, packed=(i // 2 if swapped else i) % 2 == 1,
                queues=2 if i == 0 else 1)
            for i, (kind, mergeable) in enumerate(kinds)]


def boot(name, workdir, initrd, server, interfaces, **kwargs):
    machine = guest.Qemu(name, workdir, initrd, "net", memory=512, **kwargs)
    for nic in interfaces:
        machine.extra += nic.arguments(machine)
    return machine.start([], *([server] if server else []))


def numbers(interfaces):
    return ",".join(str(n.number) for n in interfaces)


def sweep(machine, kind, size, here, there, vid=0, timeout=200):
    """Check all pairs of interfaces; complain about those that are wrong."""
    before = len(machine.marks("NET"))
    machine.order("sweep", kind, size, numbers(here), numbers(there), vid, timeout=timeout)
    said = machine.marks("NET")[before:]
    assert len(said) == len(here) * len(there)
    wrong = [line for line in said if " result=ok " not in line]
    assert not wrong, "\n".join(wrong)


def counters(server, nic):
    return server.port_status(nic.port.name)["switch"]["counters"]


def check_counters(server, here, there):
    """That offloads were really passed on where both have them, and done for
    those who have none: large frames arrived, were cut up, were completed."""
    if not server.status():
        return
    able = counters(server, there[0])
    assert able["out-bytes"] > 4 * MTU and able["drops"]["offload"] == 0
    sums = {kind: [counters(server, n) for n in here + there if n.kind == kind]
            for kind in net.OFFLOADS}
    assert all(c["segmented"] == c["csum-completed"] == 0 for c in sums["all"])
    assert all(c["segmented"] > 0 and c["csum-completed"] == 0 for c in sums["csum"])
    assert all(c["segmented"] > 0 and c["csum-completed"] > 0 for c in sums["none"])
    for nic in here + there:
        for reason in ("bad-chain", "bad-header", "too-long", "no-memory", "offload"):
            assert counters(server, nic)["drops"][reason] == 0, (nic.number, reason)


def test_tcp_between_guests_with_every_mix_of_offloads(workdir, net_initrd):
    need_qemu("10")
    need_qemu("7.2")
    here, there = nics(workdir, 0, False), nics(workdir, FAR, True)
    with net.switch(workdir, [n.port for n in here + there]) as server, \
            boot("here", workdir, net_initrd, server, here, version="10", smp=2) as first, \
            boot("there", workdir, net_initrd, server, there, version="7.2", smp=2) as second:
        both = ((first, here), (second, there))
        for machine, interfaces in both:
            machine.wait_for("READY")
            for nic in interfaces:
                machine.order("nic", nic.number, MTU)
            machine.order("nics")
        for kind in ("tcp4", "tcp6"):
            sweep(first, kind, 250000, here, there)
        for machine, interfaces in both:
            for nic in interfaces:
                machine.order("mtu", nic.number, 1500)
        for kind in ("tcp4", "tcp6"):
            sweep(first, kind, 250000, here, there)
        check_counters(server, here, there)
        sweep(second, "udp4", 8000, there[-2:], here)
        sweep(second, "udp6", 8000, there[:1], here[-2:])
        # Tagged by the guests, over ports that carry every VLAN.
        tagged = [(machine, interfaces[::3]) for machine, interfaces in both]
        for machine, interfaces in tagged:
            for nic in interfaces:
                machine.order("vlan", nic.number, 100)
        sweep(first, "tcp4", 250000, tagged[0][1], tagged[1][1], vid=100)
        sweep(second, "udp6", 8000, tagged[1][1], tagged[0][1], vid=100)
        for machine in (first, second):
            machine.tell("end")
            machine.wait_end()


def test_large_udp_segments_between_guests(workdir, net_initrd, qemu10):
    """Many datagrams in one message: as one frame to whom has USO, in pieces to the
    others. QEMU up to 10.0 keeps USO from vhost-user (it asks its network back-end,
    and only TAP says yes): then guests cut messages up themselves."""
    here = [Nic(workdir, 0, "all", True, False, mtu=1500),
            Nic(workdir, 1, "none", True, True, mtu=1500)]
    there = [Nic(workdir, FAR, "all", True, True, mtu=1500),
             Nic(workdir, FAR + 1, "none", False, False, mtu=1500)]
    with net.switch(workdir, [n.port for n in here + there]) as server, \
            boot("here", workdir, net_initrd, server, here) as first, \
            boot("there", workdir, net_initrd, server, there) as second:
        for machine, interfaces in ((first, here), (second, there)):
            machine.wait_for("READY")
            for nic in interfaces:
                machine.order("nic", nic.number, 1500)
        able = all({"HOST_USO", "GUEST_USO4", "GUEST_USO6"} <= set(
            server.port_status(nic.port.name)["features"]) for nic in (here[0], there[0]))
        for kind in ("uso4", "uso6"):
            sweep(first, kind, 20000, here, there)
            sweep(second, kind, 20000, there[:1], here[:1])
        whole, pieces = (counters(server, n) for n in there)
        assert pieces["out-bytes"] < 1514 * pieces["out-frames"]
        if able:
            assert whole["segmented"] == 0 and whole["out-bytes"] > 2000 * whole["out-frames"]
            assert pieces["segmented"] > 20
        else:
            print("USO was not negotiated: guests have cut up messages themselves")
            assert whole["out-bytes"] < 1514 * whole["out-frames"]
        for machine in (first, second):
            machine.tell("end")
            machine.wait_end()
