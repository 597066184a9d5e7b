"""The systemd unit of ringbolt-vf, started by systemd: first process of a
namespace of the machine with devices, whose PFs it makes as the file says.

SPDX-License-Identifier: BSD-3-Clause
"""
import pathlib
import shutil

import pytest

import lab as lab_machine
from lab import NIC, NIC_VFS
from test_sriov import MACS, functions

SYSTEMD = pathlib.Path("/lib/systemd/systemd")
PLAN = f"""
pfs:
  - pf: {NIC}
    vfs: 2
    driver: none
    vf:
      0: {{ mac: "{MACS[0]}", vlan: 10 }}
      1: {{ driver: vfio-pci, owners: [vm1] }}
"""
# /etc and where the program is installed are folders of the namespace's own;
# network devices keep their names, which other tests know.
BOOT = """
mount --make-rprivate / && cp -a /etc /run/etc && mount --bind /run/etc /etc &&
mkdir -p /etc/ringbolt /etc/systemd/system /run/systemd/network &&
cp /tmp/share/vf.yaml /etc/ringbolt && cp /tmp/share/ringbolt-vf.service /etc/systemd/system &&
mount -t tmpfs tmpfs /usr/local && mkdir /usr/local/bin &&
ln -s /tmp/build/apps/ringbolt-vf /usr/local/bin/ringbolt-vf &&
printf '[Match]\\nOriginalName=*\\n[Link]\\nNamePolicy=\\n' >/run/systemd/network/00-keep.link &&
export container=lab && exec /lib/systemd/systemd --system --unit=ringbolt-vf.service \
  --log-target=console --show-status=no
"""


@pytest.fixture
def booted(lab):
    if not SYSTEMD.exists():
        pytest.skip("there is no systemd here")
    (lab.share / "vf.yaml").write_text(PLAN)
    (lab.share / "boot.sh").write_text(BOOT)
    shutil.copyfile(lab_machine.build_folder() / "apps/ringbolt-vf.service",
                    lab.share / "ringbolt-vf.service")
    number = lab.begin("echo $$ >/run/boot; exec unshare --mount --pid --fork --kill-child "
                       "--mount-proc bash -e /tmp/share/boot.sh")
    yield number
    lab.run("kill -9 $(cat /run/boot)", check=False)
    lab.finish(number)
    lab.clear(NIC)


def test_systemd_makes_the_file_true(lab, booted):
    inside = "nsenter --target $(pgrep -P $(cat /run/boot)) --mount --pid --root --wd systemctl"
    lab.run(f"for i in $(seq 120); do case $({inside} show -P ActiveState ringbolt-vf 2>/dev/null) "
            "in active | failed) break; esac; sleep 0.5; done", timeout=180)
    status = lab.run(f"{inside} status --no-pager ringbolt-vf", check=False)
    assert "active (exited)" in status.out, f"{status}{lab.text()}"
    seen = functions(lab)
    assert seen[NIC_VFS[0]]["vf"]["conf"].items() >= {"mac": MACS[0], "vlan": 10}.items()
    assert seen[NIC_VFS[1]]["driver"] == "vfio-pci" and seen[NIC_VFS[1]]["owners"] == "vm1"
    # A file that has changed, and one that is wrong.
    etc = "/proc/$(pgrep -P $(cat /run/boot))/root/etc/ringbolt/vf.yaml"
    lab.run(f"sed -i 's/vlan: 10/vlan: 11/' {etc}; {inside} reload ringbolt-vf")
    assert functions(lab)[NIC_VFS[0]]["vf"]["conf"]["vlan"] == 11
    lab.run(f"sed -i s/vlan/valn/ {etc}")
    assert lab.run(f"{inside} restart ringbolt-vf", check=False).status != 0
    told = lab.run(f"{inside} status --no-pager ringbolt-vf", check=False).out
    assert "/etc/ringbolt/vf.yaml:7: vf: 'valn': unknown key" in told and "status=2" in told
