"""The same devices in a machine whose IOMMU is off, and a card that is pulled
out. A machine of its own, which nobody needs afterwards.

SPDX-License-Identifier: BSD-3-Clause
"""
import pytest

import guest
import lab as lab_machine
from conftest import need_qemu
from lab import NIC, NIC_VFS, NVME

UNSAFE = "--unsafe-no-iommu"
VF = NIC_VFS[0]


@pytest.fixture(scope="module")
def bare(new_folder):
    need_qemu("10")
    try:
        machine = lab_machine.start(new_folder(), iommu=False)
    except guest.Unavailable as e:
        pytest.skip(str(e))
    with machine:
        machine.run(f"ip link set {machine.netdev(NIC)} up")
        machine.vf("create", NIC, 2, "--driver", "none")
        yield machine
        if not machine.broken:
            machine.end()


def test_nothing_is_handed_over_without_an_iommu(bare):
    refused = bare.vf("bind", VF, "vfio-pci", check=False)
    assert refused.status == 1 and "IOMMU" in refused.err, refused
    assert bare.driver(VF) == ""
    refused = bare.vf("claim", VF, "--owner", "vm1", check=False)
    assert refused.status == 1 and "IOMMU" in refused.err, refused
    assert bare.vf("probe", VF, check=False).status == 1


def test_the_unsafe_mode_has_to_be_asked_for_each_time(bare):
    bare.need("no-iommu")
    bare.run("echo 1 >/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
    refused = bare.vf("bind", VF, "vfio-pci", check=False)
    assert refused.status == 1 and UNSAFE in refused.err, refused
    bound = bare.vf("bind", VF, "vfio-pci", UNSAFE)
    assert "memory" in bound.err
    refused = bare.vf("probe", VF, check=False)
    assert refused.status == 1 and "all of the host's memory" in refused.out, refused
    report = bare.vf("probe", VF, UNSAFE, "--json").json
    assert report["ok"] and report["backend"] == "noiommu"
    results = {s["step"]: s["result"] for s in report["steps"]}
    assert results["dma"] == "skipped" and results["interrupt"] == "ok"
    bare.vf("unbind", VF)


def test_a_card_that_is_pulled_out(bare):
    """With its VFs, one of which was set and one of which is looked at."""
    bare.vf("set", VF, "vlan=5")
    watching = bare.begin(f"for i in $(seq 40); do {bare.vf_command('list')} || exit 1; done")
    bare.qmp("device_del", id="nic")
    bare.wait_path(f"/sys/bus/pci/devices/{NIC}", there=False)
    assert bare.finish(watching).status == 0
    assert set(f["address"] for f in bare.vf("list", "--json").json) == {NVME}
    gone = bare.vf("set", VF, "vlan=6", check=False)
    assert gone.status == 1 and VF in gone.err
    bare.vf("recover")
