"""File systems in a guest: QEMU 10 and 7.2, split and packed rings, one and
several queues. One guest per variant does everything of guest/fs.sh, over a
reboot; the tests look at what it said and at the image file meanwhile.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest
import pytest
from conftest import need_qemu

GIB = 1 << 30
MEGABYTES = 16  # of files on each file system; fs.sh deletes as much again
# (QEMU, packed, queues). Those that differ in one thing only from others are slow.
VARIANTS = [
    ("10", False, 1),
    ("10", True, 4),
    ("7.2", False, 4),
    ("7.2", True, 1),
    pytest.param(("10", True, 1), marks=pytest.mark.slow),
    pytest.param(("10", False, 4), marks=pytest.mark.slow),
    pytest.param(("7.2", False, 1), marks=pytest.mark.slow),
    pytest.param(("7.2", True, 4), marks=pytest.mark.slow),
]


def variant_id(variant):
    version, packed, queues = variant
    return f"qemu{version}-{'packed' if packed else 'split'}-{queues}q"


class Run:
    """One guest from boot to power-off. An error in it fails the tests whose
    evidence it kept from appearing, and not the others."""

    def __init__(self, variant, folder, initrd):
        self.version, self.packed, self.queues = variant
        self.error = None
        self.allocated = {}  # step -> bytes of the image file on the host
        self.status = {}
        self.disk = guest.Disk("disk1", folder, size=GIB, queues=self.queues)
        self.machine = guest.Qemu(
            "guest", folder, initrd, "fs", version=self.version, packed=self.packed,
            smp=2 if self.queues > 1 else 1, extra=guest.host_share(),
            arguments=f"disk={self.disk.name} megabytes={MEGABYTES}")
        try:
            with guest.backend(folder, [self.disk]) as server:
                with self.machine.start([self.disk], server):
                    self.follow()
                    self.machine.wait_for("CLEAN")
                    self.status = server.status()
                    self.machine.wait_end()
        except guest.GuestError as e:
            self.error = e

    def observe(self, step, before, after, word):
        for mark, answer in ((before, f"{word}-seen"), (after, f"{word}-seen-again")):
            self.machine.wait_for(mark)
            self.allocated[f"{step} {mark.split()[0]}"] = self.disk.allocated()
            self.machine.tell(answer)

    def follow(self):
        for fs in ("ext4", "xfs"):
            self.observe(fs, f"TRIM_BEFORE {fs}", f"TRIM_AFTER {fs}", fs)
        self.observe("discard", "DISCARD_BEFORE", "DISCARD_AFTER", "discard")

    def given_back(self, step, kind):
        before, after = f"{step} {kind}_BEFORE", f"{step} {kind}_AFTER"
        if after not in self.allocated:
            raise self.error
        return self.allocated[before] - self.allocated[after]

    def require(self, name, words=None):
        """The guest must have said this."""
        found = self.machine.marks(name)
        if not found or (words is not None and words not in found):
            raise self.error or guest.GuestError(f"the guest never said @@{name} {words or ''}")
        return found


@pytest.fixture(scope="module", params=VARIANTS, ids=variant_id)
def run(request, new_folder, initrd):
    need_qemu(request.param[0])
    return Run(request.param, new_folder(), initrd)


def test_driver_sees_the_disk_as_configured(run):
    run.require("DISK")
    seen = run.machine.values("DISK", 0)
    assert int(seen["bytes"]) == GIB
    # Linux uses at most one queue per virtual CPU.
    assert int(seen["queues"]) == min(run.queues, run.machine.smp)
    assert seen["packed"] == ("1" if run.packed else "0")


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_files_read_back_past_the_cache(run, fs):
    run.require("FILLED", fs)


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_fstrim_gives_space_back_to_the_host(run, fs):
    run.require("TRIM_AFTER", fs)
    assert run.given_back(fs, "TRIM") >= 15 << 20


def test_blkdiscard_gives_space_back_and_reads_as_zero(run):
    run.require("DISCARD_AFTER")
    assert run.given_back("discard", "DISCARD") >= 7 << 20


def test_fio_verifies_what_it_wrote(run):
    if run.machine.marks("NOFIO"):
        pytest.skip("the guest kernel has no 9p to run the host's fio from")
    run.require("FIO")


@pytest.mark.parametrize("fs", ["ext4", "xfs"])
def test_files_survive_a_reboot(run, fs):
    run.require("VERIFIED", fs)


def test_file_systems_are_clean_and_both_programs_end_well(run):
    run.require("CLEAN")
    if run.error:
        raise run.error
