"""User-mode Linux on a port: a Linux driver with no QEMU in between, which leaves
the control queue to the back-end, and reads the configuration space.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest
import net
import pytest


@pytest.fixture(scope="module")
def uml_net_initrd(logs):
    try:
        return net.build_uml_initrd(logs)
    except guest.Unavailable as e:
        pytest.skip(str(e))


class Uml(guest.Uml):
    """One with a network interface."""

    def start_on(self, port, server):
        # VIRTIO_ID_NET is 1.
        self.arguments += f" virtio_uml.device={port.socket}:1"
        return self.start([], server)


def test_two_user_mode_linux_talk_and_use_the_control_queue(workdir, uml_net_initrd):
    # Its rings cannot be packed: it sends ring base 0 always.
    ports = [net.Port(f"uml{n}", workdir, n, packed="off", mac=net.mac(n), mtu=1400)
             for n in range(2)]
    machines = [Uml(f"uml{n}", workdir, uml_net_initrd, "netuml", memory=128,
                    arguments=f"me={n}" + (" peer=0" if n else "")) for n in range(2)]
    with net.switch(workdir, ports) as server, \
            machines[0].start_on(ports[0], server):
        machines[0].wait_for("SERVING")
        with machines[1].start_on(ports[1], server):
            machines[1].wait_end()
        status = server.port_status("uml1")
    said = machines[1].marks("NET")
    assert len(said) == 4 and all(" result=ok " in line for line in said), "\n".join(said)
    assert machines[1].values("NIC", 0)["address"] == net.mac(1)
    assert machines[1].values("NIC", 0)["mtu"] == "1400"
    assert machines[1].values("NIC")["address"] == net.mac(0x77)
    assert status["control-queue"]["commands"] > 5
    assert status["control-queue"]["errors"] == 0
