"""A machine with devices to hand over, all of them emulated: an SR-IOV network
card, an NVMe controller with virtual functions, two cards that share an IOMMU
group, behind an emulated IOMMU; and the kernel's real sysfs, VFIO, iommufd and
rtnetlink.

The tests in test_sriov.py share one such machine and run commands in it, each
of which is a program of the host's file system (guest/lab.sh).

SPDX-License-Identifier: BSD-3-Clause
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import time

import pytest

import assets
import guest
import initramfs
from guest import GuestError, Unavailable

# What Debian builds, and what setup/modules.py adds to it.
MODULES = ("9pnet_virtio", "9p", "virtio_net", "ext4", "crc32c_generic", "igb", "igbvf", "e1000",
           "nvme", "vfio-pci", "vfio_iommu_type1", "tun", "8021q")
OWN_MODULES = ("iommufd", "netdevsim")
PF_MAC = "52:54:00:aa:00:01"
# Where the machine's devices are, always.
NIC, NIC_VFS = "0000:01:00.0", ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"]
NVME, NVME_VFS = "0000:02:00.0", ["0000:02:00.1", "0000:02:00.2"]
CROWD = ["0000:03:00.0", "0000:04:01.0", "0000:04:02.0"]


class Result:
    """A command that ran in the machine."""

    def __init__(self, command, status, out, err):
        self.command, self.status, self.out, self.err = command, status, out, err

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return (f"$ {self.command}\nstatus {self.status}\n{self.out}"
                f"{self.err and '--- stderr' + chr(10) + self.err}")


class Lab(guest.Qemu):
    """The machine. Started once for many tests; any test may break it, and
    those after it then fail at once instead of waiting."""

    # All tests of a session; in check-slow, emulation in emulation.
    lifetime = 1400

    def __init__(self, workdir, initrd, build, iommu=True, devices=()):
        # A tick that comes by itself: on a busy host, an emulated one-shot timer
        # was seen to be lost, and a processor to sleep for ever.
        super().__init__("lab", workdir, initrd, "lab", memory=1536,
                         arguments="nohz=off highres=off "
                         + ("intel_iommu=on" if iommu else "intel_iommu=off"))
        self.share = workdir / "share"
        self.share.mkdir()
        self.broken = None
        self.extra = [*(["-device", "intel-iommu,intremap=on"] if iommu else []),
                      *guest.host_share(),
                      *self.share_options("build", build, ",readonly=on"),
                      *self.share_options("share", self.share),
                      *devices]

    @staticmethod
    def share_options(tag, path, more=""):
        return ["-fsdev", f"local,id={tag},path={path},security_model=none,multidevs=remap{more}",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]

    def begin(self, command):
        """Have a command started, and do not wait for it. Its number."""
        if self.broken:
            raise GuestError(f"the machine broke earlier: {self.broken}")
        number = self.told + 1
        (self.share / f"{number}.sh").write_text(f"cd /tmp\n{command}\n")
        try:
            self.tell("run")
        except GuestError as e:
            self.broken = str(e).splitlines()[0]
            raise
        return number

    def status_of(self, number):
        """The status a command ended with, None while it runs."""
        found = re.search(rf"^.*?@@DID {number} (\d+)$", self.text(), re.M)
        return int(found.group(1)) if found else None

    def finish(self, number, timeout=90):
        """Wait for a command that was begun."""
        def ended():
            self._check()
            return self.status_of(number) is not None

        command = (self.share / f"{number}.sh").read_text().split("\n", 1)[1].strip()
        try:
            guest.wait_until(ended, timeout, f"'{command}' in the machine")
        except GuestError as e:
            if not self.process.alive:
                self.broken = "it ended"
            raise GuestError(f"{e}\n{self.output(number)}\n{self.story()}") from None
        out, err = self.output(number)
        return Result(command, self.status_of(number), out, err)

    def output(self, number):
        return [path.read_text(errors="replace") if path.exists() else ""
                for path in (self.share / f"{number}.out", self.share / f"{number}.err")]

    def run(self, *words, check=True, timeout=90):
        """Run a command, given as one string for the shell or as words."""
        command = words[0] if len(words) == 1 else shlex.join(str(w) for w in words)
        result = self.finish(self.begin(command), timeout)
        if check and result.status != 0:
            raise GuestError(str(result))
        return result

    def end(self):
        self.tell("end")
        self.wait_end()

    # ---- What is in it ----

    def read(self, path):
        return self.run(f"cat {path}").out.strip()

    def wait_path(self, path, there=True, timeout=20):
        """Wait for a path in the machine to come or go."""
        self.run(f"for i in $(seq {timeout * 10}); do [ {'' if there else '!'} -e {path} ] && "
                 "exit 0; sleep 0.1; done; exit 1", timeout=timeout * 4)

    def need(self, what):
        """Skip without what only modules of our own have."""
        if what in ("cdev", "netdevsim", "no-iommu") and not own_modules():
            pytest.skip(unavailable("modules"))

    def vf_command(self, *words):
        return shlex.join(["/tmp/build/apps/ringbolt-vf", *(str(w) for w in words)])

    def vf(self, *words, **kwargs):
        """Run ringbolt-vf."""
        return self.run(self.vf_command(*words), **kwargs)

    def clear(self, pf):
        """Leave a PF without VFs, whatever a test that failed has left."""
        program = self.vf_command()
        self.run(f"""cd /sys/bus/pci/devices/{pf}
            for v in virtfn*; do
                [ -e $v ] || continue
                v=$(basename $(readlink $v))
                {program} release $v --force; {program} unbind $v
            done 2>/dev/null
            timeout 30 sh -c 'echo 0 >sriov_numvfs'
            echo 1 >sriov_drivers_autoprobe
            rm -rf /run/ringbolt-vf""")

    def netdev(self, address):
        return self.run(f"ls /sys/bus/pci/devices/{address}/net").out.strip()

    def mac_of(self, address):
        return self.run(f"cat /sys/bus/pci/devices/{address}/net/*/address").out.strip()

    @staticmethod
    def interfaces():
        return ["group", "cdev"] if own_modules() else ["group"]

    def nvme_online(self, number):
        """Give secondary controller 1 or 2 its queues and start it: before that,
        its function answers nothing."""
        for what in ("-r 1 -a 8 -n 1", "-r 0 -a 8 -n 2", "-a 9"):
            self.run(f"nvme virt-mgmt $(ls /dev/nvme?) -c {number} {what}")

    def bind(self, address, driver):
        """Bind a function by hand, as ringbolt-vf does it."""
        device = f"/sys/bus/pci/devices/{address}"
        self.run(f"[ ! -e {device}/driver ] || echo {address} >{device}/driver/unbind; "
                 f"echo {driver} >{device}/driver_override; "
                 f"echo {address} >/sys/bus/pci/drivers_probe; "
                 f"[ $(basename $(readlink {device}/driver)) = {driver} ]")

    def driver(self, address):
        return self.run(f"readlink /sys/bus/pci/devices/{address}/driver | sed 's|.*/||'").out.strip()


def network_card():
    """igb: up to seven virtual functions, each in an IOMMU group of its own."""
    return ["-device", "pcie-root-port,id=rp1,bus=pcie.0,chassis=1,slot=1",
            "-netdev", "hubport,id=hub0,hubid=0",
            "-device", f"igb,id=nic,netdev=hub0,bus=rp1,mac={PF_MAC}"]


def disk_controller(workdir, size=64 << 20):
    """NVMe with two virtual functions."""
    image = workdir / "nvme.raw"
    with open(image, "wb") as f:
        f.truncate(size)
    return ["-device", "pcie-root-port,id=rp2,bus=pcie.0,chassis=2,slot=2",
            "-device", "nvme-subsys,id=ss0,nqn=ss0",
            "-device", "nvme,id=nv0,serial=lab,subsys=ss0,bus=rp2,sriov_max_vfs=2,"
            "sriov_vq_flexible=4,sriov_vi_flexible=2,max_ioqpairs=6,msix_qsize=5",
            "-drive", f"file={image},if=none,format=raw,id=nvd0",
            "-device", "nvme-ns,drive=nvd0,bus=nv0,nsid=1,shared=on"]


def crowded_group():
    """Two cards behind a bridge to conventional PCI: one group for all three."""
    return ["-device", "pcie-root-port,id=rp3,bus=pcie.0,chassis=3,slot=3",
            "-device", "pcie-pci-bridge,id=br0,bus=rp3",
            "-netdev", "hubport,id=hub1,hubid=1",
            "-device", "e1000,bus=br0,addr=1,netdev=hub1",
            "-netdev", "hubport,id=hub2,hubid=2",
            "-device", "e1000,bus=br0,addr=2,netdev=hub2"]


def own_modules():
    """Folder of the modules that were built for the guests, or None."""
    try:
        return assets.locate("modules")[0] / "modules"
    except Unavailable:
        return None


def unavailable(name):
    """Why an asset is not there."""
    try:
        assets.locate(name)
    except Unavailable as e:
        return str(e)
    return f"{name} is there"


def build_initrd(workdir):
    own = own_modules()
    folders = [guest.kernel_modules(), *([own] if own else [])]
    files = {"init": guest.HERE / "guest/init", "tests/lib.sh": guest.HERE / "guest/lib.sh",
             "tests/lab.sh": guest.HERE / "guest/lab.sh"}
    return initramfs.build(workdir / "lab.cpio", folders,
                           MODULES + (OWN_MODULES if own else ()), (), files)


def second_guest(machine):
    """What a guest inside the machine needs, where the machine sees it: kernel
    and initramfs, as QEMU's options."""
    files = {"init": guest.HERE / "guest/init", "tests/lib.sh": guest.HERE / "guest/lib.sh",
             "tests/second.sh": guest.HERE / "guest/second.sh"}
    initramfs.build(machine.share / "second.cpio", [guest.kernel_modules()], ("igbvf",), (), files)
    shutil.copyfile(machine.kernel, machine.share / "vmlinux")
    return "-kernel /tmp/share/vmlinux -initrd /tmp/share/second.cpio"


def build_folder():
    return pathlib.Path(os.environ.get("RINGBOLT_BUILD", guest.ROOT / "build"))


def start(workdir, **kwargs):
    """Boot the machine with all its devices."""
    devices = [*network_card(), *disk_controller(workdir), *crowded_group()]
    machine = Lab(workdir, build_initrd(workdir), build_folder(), devices=devices, **kwargs)
    begin = time.monotonic()
    machine.start([])
    machine.wait_for("READY", timeout=180)
    print(f"the machine was up after {time.monotonic() - begin:.1f} s")
    return machine
