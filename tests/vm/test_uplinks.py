"""The host's kernel on uplinks: TAP, packet sockets and AF_XDP, each with a
network namespace behind it, and guests with and without offloads on ports. TCP
and UDP between all of them, every byte compared.

SPDX-License-Identifier: BSD-3-Clause
"""
import contextlib
import itertools
import os

import guest
import net
import pytest
from test_net import Nic, boot

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root")
BYTES = 1000000
# net_af_packet has the kernel put IPv4 fragments together, and then has no room
# for the datagram: only IPv6 has long ones.
SIZES = {"tcp4": BYTES, "tcp6": BYTES, "udp4": 1400, "udp6": 8000}


@pytest.fixture
def spaces(workdir, net_initrd):
    """Three namespaces; net_initrd has compiled netcheck."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(net.Namespace(workdir, number)) for number in (32, 33, 34)]


def check_all(spaces, kinds, others=()):
    numbers = [s.number for s in spaces]
    wrong = []
    for space, kind in itertools.product(spaces, kinds):
        for number in [n for n in numbers if n != space.number] + list(others):
            said = space.check(kind, number, SIZES[kind])
            if "result=ok" not in said:
                wrong.append(f"{kind} from {space.number} to {number}: {said}")
    assert not wrong, "\n".join(wrong)


def test_kernel_traffic_over_tap_packet_and_xdp_uplinks(workdir, net_initrd, qemu10, spaces):
    tap, packet, xdp = spaces
    # One guest with everything and one with nothing that could be offloaded.
    nics = [Nic(workdir, 0, "all", True, False, mtu=1500),
            Nic(workdir, 1, "none", False, True, mtu=1500)]
    tap_name = f"rbt{os.getpid() % 100000}t"
    uplinks = [f"name=tap,dev=net_tap0;iface={tap_name},link=up",
               f"name=packet,dev=net_af_packet0;iface={packet.veth()}",
               f"name=xdp,dev=net_af_xdp0;iface={xdp.veth()}"]
    with net.switch(workdir, [n.port for n in nics], uplinks) as server:
        guest.wait_until(lambda: os.path.exists(f"/sys/class/net/{tap_name}"), 20, tap_name)
        tap.take(tap_name)
        with boot("guest", workdir, net_initrd, server, nics) as machine:
            check_all(spaces, ("tcp4", "udp6"))
            machine.wait_for("READY")
            for nic in nics:
                machine.order("nic", nic.number, 1500)
            check_all(spaces, ("tcp6", "udp4"), [n.number for n in nics])
            for kind in ("tcp4", "tcp6"):
                machine.order("sweep", kind, BYTES, "0,1", "32,33,34")
            machine.tell("end")
            machine.wait_end()
            wrong = [line for line in machine.marks("NET") if " result=ok " not in line]
            assert not wrong, "\n".join(wrong)
