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
    ports = [net.Port(f"uml{n}", workdir, n, mac=net.mac(n), mtu=1400,
                      **({"packed": "off"} if n else {})) for n in range(2)]
    machines = [Uml(f"uml{n}", workdir, uml_net_initrd, "netuml", memory=128,
                    arguments=f"me={n}" + (" peer=0" if n else "")) for n in range(2)]
    with net.switch(workdir, ports) as server, \
            machines[0].start_on(ports[0], server):
        machines[0].wait_for("SERVING")
        with machines[1].start_on(ports[1], server):
            machines[1].wait_end()
        status = server.port_status("uml1")
        # A new packed ring with base 0, and a split one on the other side.
        assert "RING_PACKED" in server.port_status("uml0")["features"]
        assert "RING_PACKED" not in status["features"]
    said = machines[1].marks("NET")
    assert len(said) == 4 and all(" result=ok " in line for line in said), "\n".join(said)
    assert machines[1].values("NIC", 0)["address"] == net.mac(1)
    assert machines[1].values("NIC", 0)["mtu"] == "1400"
    assert machines[1].values("NIC")["address"] == net.mac(0x77)
    assert status["control-queue"]["commands"] > 5
    assert status["control-queue"]["errors"] == 0


def test_linux_takes_a_device_without_a_control_queue(workdir, uml_net_initrd):
    # It refuses one that offers what needs that queue.
    port = net.Port("uml0", workdir, 0, packed="off", **{"ctrl-vq": "off"})
    machine = Uml("uml0", workdir, uml_net_initrd, "netuml", memory=128, arguments="me=0")
    with net.switch(workdir, [port]) as server, machine.start_on(port, server):
        machine.wait_for("SERVING")
        status = server.port_status("uml0")
    assert not {"CTRL_VQ", "GUEST_ANNOUNCE", "MQ"} & set(status["features"])
    assert status["active-pairs"] == 1


def test_a_driver_steers_by_hash_and_is_loaded_again(workdir, uml_net_initrd):
    ports = [net.Port("uml0", workdir, 0, packed="off", mac=net.mac(0)),
             net.Port("uml1", workdir, 1, queues=2, rss="on", mac=net.mac(1))]
    share = workdir / "share"
    share.mkdir()
    peer = Uml("uml0", workdir, uml_net_initrd, "netuml", memory=128, arguments="me=0")
    machine = Uml("uml1", workdir, uml_net_initrd, "netrss", memory=128,
                  arguments=f"me=1 peer=0 share={share}")
    with net.switch(workdir, ports) as server, peer.start_on(ports[0], server):
        peer.wait_for("SERVING")
        with machine.start_on(ports[1], server):
            def at(where, count):
                assert machine.wait_for("AT", count) == where
                status = server.port_status("uml1")
                (share / where).touch()
                return status

            start, steering, again = (at(where, n) for n, where in
                                      enumerate(("start", "steering", "again"), 1))
            machine.wait_end()
    assert {"RSS", "HASH_REPORT", "CTRL_VQ", "MQ"} <= set(start["features"])
    # virtio_net_hdr_v1_hash
    assert start["header-length"] == 20
    assert (start["active-pairs"], start["rss"]) == (1, None)
    assert steering["active-pairs"] == 2
    assert steering["rss"]["table"] == [0, 1] * 64
    assert steering["mac"] == net.mac(0x77)
    assert "01:00:5e:01:02:03" in steering["filter"]["multicast"]
    # Nothing of that is left for another driver.
    assert (again["active-pairs"], again["rss"]) == (1, None)
    assert "01:00:5e:01:02:03" not in again["filter"]["multicast"]
    assert again["control-queue"]["errors"] == 0
    said = machine.marks("NET")
    assert len(said) == 2 and all(" result=ok " in line for line in said), "\n".join(said)
