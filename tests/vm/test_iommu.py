"""Guests behind a virtual IOMMU that is strict: each request is mapped before and
unmapped after, so the back-end asks for addresses and is told to forget them
all the time.

SPDX-License-Identifier: BSD-3-Clause
"""
import pytest

import guest
import net
from test_migration import wait_migrated

MIB = 1 << 20
PLATFORM = {"iommu_platform": "on", "ats": "on"}
IOMMU = ["-device", "intel-iommu,intremap=on,device-iotlb=on"]
# Rings of several pages, which the kernel takes from anywhere.
RING = 1024


class Behind(guest.Qemu):
    """A guest whose kernel uses the IOMMU for every device."""

    def __init__(self, *args, strict=True, extra=(), **kwargs):
        super().__init__(*args, arguments=f"intel_iommu=on iommu.strict={int(strict)}",
                         extra=[*extra], **kwargs)

    def device(self, disk, port):
        return {**super().device(disk, port), **PLATFORM, "queue-size": RING}

    def argv(self, disks):
        argv = super().argv(disks)
        at = argv.index("-machine")
        argv[at + 1] += ",kernel-irqchip=split"
        # Before the devices, which it must know.
        return argv[:at] + IOMMU + argv[at:]


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_disk_behind_a_strict_iommu(workdir, initrd, qemu10, packed):
    disk = guest.Disk("vda1", workdir, size=256 * MIB, queues=1, iommu="on")
    with guest.backend(workdir, [disk]) as server, \
            Behind("guest", workdir, initrd, "serve", packed=packed).start([disk], server) as machine:
        machine.wait_for("READY")
        machine.order("start", disk.name, 2, 2000, 8)
        machine.wait_io(disk)
        machine.wait_io(disk)
        status = server.status()["devices"][0]
        assert "ACCESS_PLATFORM" in status["features"]
        assert status["iotlb"]["updates"] > 100
        assert status["iotlb"]["invalidations"] > 100
        machine.order("stop", disk.name)
        assert machine.verified(disk) > 0
        machine.tell("end")
        machine.wait_end()


def test_a_back_end_restarts_behind_a_strict_iommu(workdir, initrd, qemu10):
    """The next one is told nothing: it has to ask for every address, its rings' own
    first."""
    disk = guest.Disk("vda1", workdir, size=256 * MIB, queues=2, iommu="on")
    with guest.backend(workdir, [disk]) as server, \
            Behind("guest", workdir, initrd, "serve", smp=2).start([disk], server) as machine:
        machine.wait_for("READY")
        machine.order("start", disk.name, 2, 2000, 8)
        machine.wait_io(disk)
        for _ in range(2):
            machine.servers = []
            server.stop()
            server.start()
            machine.servers = [server]
            machine.wait_io(disk)
        assert server.status()["devices"][0]["iotlb"]["updates"] > 10
        machine.order("stop", disk.name)
        machine.tell("end")
        machine.wait_end()
        assert machine.verified(disk) > 0


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_guest_migrates_behind_a_strict_iommu(workdir, initrd, qemu10, packed):
    """What the device writes is logged by guest physical address, in buffers and in
    rings whose pages lie apart."""
    keys = {"queues": 1, "lock": "start", "iommu": "on"}
    here = guest.Disk("here", workdir, size=256 * MIB, serial="disk", **keys)
    there = guest.Disk("there", workdir, path=here.path, serial="disk", **keys)
    common = {"memory": 256, "packed": packed}
    source = Behind("source", workdir, initrd, "serve", **common)
    target = Behind("target", workdir, initrd, "serve", **common,
                    extra=["-incoming", f"unix:{workdir}/migration"])
    named = guest.Disk("disk", workdir, path=here.path)
    with guest.backend(workdir, [here]) as server_here, \
            guest.backend(workdir, [there]) as server_there, \
            source.start([here], server_here), target.start([there], server_there):
        source.wait_for("READY")
        source.order("start", "disk", 2, 2000, 48)
        source.wait_io(named)
        guest.wait_until(lambda: target.qmp("query-status")["status"] == "inmigrate", 20,
                         "the target to wait for the guest")
        # Slowly: what is written meanwhile is mostly in pages that were sent. Then
        # faster than any guest can write, or it would never come to its end.
        source.qmp("migrate-set-parameters", **{"max-bandwidth": 16 * MIB})
        source.qmp("migrate", uri=f"unix:{workdir}/migration")
        source.wait_io(named)
        source.qmp("migrate-set-parameters", **{"max-bandwidth": 4096 * MIB})
        info = wait_migrated(source, target)
        assert info["ram"]["dirty-sync-count"] >= 2
        source.qmp("quit")
        target.told = source.told  # the guest's script goes on counting
        target.wait_io(named, 500)
        target.order("stop", "disk")
        target.tell("end")
        target.wait_end()
        assert target.verified(named) > 0


def test_a_file_system_behind_a_strict_iommu(workdir, initrd, qemu10):
    disk = guest.Disk("vda1", workdir, size=512 * MIB, queues=2, iommu="on")
    machine = Behind("guest", workdir, initrd, "demo", smp=2)
    machine.arguments += f" disk={disk.name} megabytes=16"
    with guest.backend(workdir, [disk]) as server, machine.start([disk], server):
        machine.wait_for("VERIFIED", timeout=120)
        assert machine.values("VERIFIED")["files"] == machine.values("WRITTEN")["files"]
        machine.wait_for("CHECKED")
        machine.tell("bye")
        machine.wait_end()


def test_a_network_behind_a_strict_iommu(workdir, qemu10):
    """Two interfaces of one guest, split and packed, in namespaces of their own:
    every byte of TCP and UDP goes through the IOMMU four times."""
    ports = [net.Port(f"p{n}", workdir, n, iommu="on") for n in (1, 2)]
    machine = Behind("guest", workdir, net.build_initrd(workdir), "net", memory=512)
    with net.RingboltNet(workdir, ports) as server:
        for port in ports:
            machine.extra += net.nic_arguments(machine, port, packed=port is ports[1],
                                               rx_queue_size=RING, tx_queue_size=RING,
                                               **PLATFORM, **{"disable-legacy": "on"})
        machine.start([], server)
        with machine:
            machine.wait_for("READY")
            for number in (1, 2):
                machine.order("nic", number, 1500)
            for kind, size in (("tcp4", 4 * MIB), ("tcp6", MIB), ("udp4", 8000)):
                machine.order("sweep", kind, size, 1, 2, timeout=120)
                machine.order("sweep", kind, size, 2, 1, timeout=120)
            wrong = [line for line in machine.marks("NET") if " result=ok " not in line]
            assert not wrong, "\n".join(wrong)
            for port in ports:
                device = server.port_status(port.name)
                assert device["iotlb"]["invalidations"] > 100, device["iotlb"]
            machine.tell("end")
            machine.wait_end()
