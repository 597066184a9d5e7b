"""iommu/ against the kernel's real VFIO and iommufd: each interface with each
kind of function, bound by hand. What ringbolt-vf does with it is test_sriov.py.

SPDX-License-Identifier: BSD-3-Clause
"""
import re

import pytest

from lab import NIC, NIC_VFS, NVME, NVME_VFS

PROGRAM = "/tmp/build/tests/iommu/vfio_machine"


@pytest.fixture(scope="module")
def nic_vf(lab):
    """A VF of the network card, without a driver."""
    lab.run(f"ip link set $(ls /sys/bus/pci/devices/{NIC}/net) up")
    lab.run(f"cd /sys/bus/pci/devices/{NIC}; echo 0 >sriov_drivers_autoprobe; "
            "echo 2 >sriov_numvfs")
    yield NIC_VFS[0]
    lab.run(f"cd /sys/bus/pci/devices/{NIC}; echo 0 >sriov_numvfs; "
            "echo 1 >sriov_drivers_autoprobe")


@pytest.fixture(scope="module")
def nvme_vf(lab):
    """A VF of the NVMe controller, online."""
    lab.run(f"cd /sys/bus/pci/devices/{NVME}; echo 0 >sriov_drivers_autoprobe; "
            "echo 2 >sriov_numvfs")
    lab.nvme_online(1)
    yield NVME_VFS[0]
    lab.run(f"cd /sys/bus/pci/devices/{NVME}; echo 0 >sriov_numvfs; "
            "echo 1 >sriov_drivers_autoprobe")


@pytest.fixture(params=["nic", "nvme"])
def vf(request):
    return request.getfixturevalue(f"{request.param}_vf")


@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_the_host_half_against_the_kernel(lab, vf, interface):
    """Mapping and every refusal, locked memory, entries, interrupts, reset."""
    lab.need(interface)
    lab.bind(vf, "vfio-pci")
    result = lab.run(PROGRAM, vf, interface, check=False)
    print(result)
    assert result.status == 0
    assert re.search(r"PASSED.* (\d+) test", result.out + result.err)
    # Explained from our side, and seen from the kernel's.
    assert "RLIMIT_MEMLOCK is 64 KiB" in result.out
    assert "RLIMIT_MEMLOCK (65536) exceeded" in lab.run("dmesg").out
