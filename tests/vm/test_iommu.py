"""Guests behind a virtual IOMMU that is strict: each request is mapped before and
unmapped after, so the back-end asks for addresses and is told to forget them
all the time.

SPDX-License-Identifier: BSD-3-Clause
"""
import pytest

import guest

MIB = 1 << 20
IOMMU = ["-device", "intel-iommu,intremap=on,device-iotlb=on"]


class Behind(guest.Qemu):
    """A guest whose kernel uses the IOMMU for every device."""

    def __init__(self, *args, strict=True, **kwargs):
        super().__init__(*args, arguments=f"intel_iommu=on iommu.strict={int(strict)}",
                         extra=[], **kwargs)

    def device(self, disk, port):
        return {**super().device(disk, port), "iommu_platform": "on", "ats": "on"}

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
