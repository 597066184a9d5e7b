"""User-mode Linux as the front-end: a Linux driver with no QEMU in between.
Its notifications are pipes, its queue size is fixed, its memory is one file
that does not begin at guest address 0.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest
import pytest


@pytest.fixture(scope="module")
def uml_initrd(logs):
    try:
        return guest.build_uml_initrd(logs)
    except guest.Unavailable as e:
        pytest.skip(str(e))


def run(workdir, uml_initrd, disk, test, arguments, *marks):
    """Start a back-end and a guest; what the guest left behind."""
    machine = guest.Uml("uml", workdir, uml_initrd, test, arguments=arguments)
    with guest.backend(workdir, [disk]) as server, machine.start([disk], server):
        for mark in marks:
            machine.wait_for(mark)
        machine.wait_end()
    return machine


def test_uml_makes_verifies_and_trims_a_file_system(workdir, uml_initrd):
    # It sends ring base 0 always, where the wrap counters of a new packed ring are 1.
    disk = guest.Disk("umldisk", workdir, size=512 << 20)
    machine = run(workdir, uml_initrd, disk, "demo", f"disk={disk.name} megabytes=16 host=none",
                  "FORMATTED", "WRITTEN", "VERIFIED", "TRIMMED", "CHECKED")
    assert int(machine.values("DISK")["bytes"]) == 512 << 20
    # 16 MiB of files were deleted; what is left is small files and metadata.
    assert disk.allocated() < 48 << 20


def test_uml_io_is_verified_block_by_block(workdir, uml_initrd):
    disk = guest.Disk("umldisk", workdir, size=64 << 20, packed="off")
    machine = run(workdir, uml_initrd, disk, "tagio", f"disk={disk.name}")
    assert machine.verified(guest.Disk("tagio", workdir, path=disk.path)) > 1000
