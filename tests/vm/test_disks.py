"""Kinds of disks in one guest, all served by one process: blocks of 4 KiB, a
store in memory, a read-only image, and a write cache switched off and on.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest

MIB = 1 << 20


def test_kinds_of_disks_side_by_side(workdir, initrd, qemu10):
    plain = guest.Disk("plain", workdir, size=128 * MIB)
    large = guest.Disk("large", workdir, size=128 * MIB, **{"block-size": 4096})
    memory = guest.Disk("memory", workdir, store="mem:64M", queues=2)
    fixed = guest.Disk("fixed", workdir, size=64 * MIB, **{"read-only": "on"})
    disks = [plain, large, memory, fixed]
    with guest.backend(workdir, disks) as server, \
            guest.Qemu("guest", workdir, initrd, "serve").start(disks, server) as machine:
        machine.wait_for("READY")
        seen = {}
        for disk in disks:
            machine.order("disk", disk.name)
            seen[disk.name] = machine.values("DISK")
        assert [seen[d.name]["block"] for d in disks] == ["512", "4096", "512", "512"]
        assert [seen[d.name]["ro"] for d in disks] == ["0", "0", "0", "1"]
        assert seen["memory"]["bytes"] == str(64 * MIB)
        machine.order("refuses", fixed.name)
        for disk in (plain, large, memory):
            machine.order("start", disk.name, 2, 1000, 8)
        for disk in (plain, large, memory):
            machine.wait_io(disk)
        for mode in ("through", "back"):
            machine.order("cache", plain.name, mode)
            machine.wait_io(plain)
            modes = {d["name"]: d["write-cache"] for d in server.status()["devices"]}
            assert modes["plain"] == f"write{mode}"
        for disk in (plain, large, memory):
            machine.order("stop", disk.name)
            assert machine.verified(disk) > 0
        machine.tell("end")
        machine.wait_end()


def test_a_guest_that_is_killed_takes_nothing_with_it(workdir, initrd, qemu10):
    """Two guests of one process; one is killed in the middle of its I/O. The
    other goes on, and a third guest takes the disk over."""
    disks = [guest.Disk(name, workdir, size=128 * MIB, queues=2) for name in ("stays", "dies")]
    stays, dies = disks
    first, second, third = (guest.Qemu(name, workdir, initrd, "serve", memory=256)
                            for name in ("first", "second", "third"))
    with guest.backend(workdir, disks) as server, \
            first.start([stays], server), second.start([dies], server):
        for machine, disk in ((first, stays), (second, dies)):
            machine.wait_for("READY")
            machine.order("start", disk.name, 2, 1000, 16)
            machine.wait_io(disk)
        second.kill()
        first.wait_io(stays)
        with third.start([dies], server):
            third.wait_for("READY")
            third.order("start", dies.name, 2, 1000, 16)
            third.wait_io(dies)
            third.order("stop", dies.name)
            third.tell("end")
            third.wait_end()
            assert third.verified(dies) > 0
        first.order("stop", stays.name)
        first.tell("end")
        first.wait_end()
        assert first.verified(stays) > 0
