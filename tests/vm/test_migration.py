"""Live migration between two QEMUs, each with a back-end of its own, on one
image (shared storage), while the guest writes and reads. Every block, and
every page the device wrote before the guest moved, must be right afterwards.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest
import pytest

MIB = 1 << 20


def migrate(source, target, disk, path):
    """First without an end in reach, until all memory was sent once and the
    device has written much of it since: only the dirty log tells QEMU to send
    those pages again. Then with all the time it wants for the last part."""
    source.qmp("migrate-set-parameters",
               **{"max-bandwidth": 64 * MIB, "downtime-limit": 1})
    source.qmp("migrate-set-capabilities",
               capabilities=[{"capability": "events", "state": True}])
    source.qmp("migrate", uri=f"unix:{path}")
    guest.wait_until(lambda: source.qmp("query-migrate").get("ram", {})
                     .get("dirty-sync-count", 0) >= 2, 60, "a first round of all memory")
    source.wait_io(disk, 1000)
    assert source.qmp("query-migrate")["status"] == "active"
    source.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 32, "downtime-limit": 5000})
    return wait_migrated(source, target)


def wait_migrated(source, target):
    def ended():
        info = source.qmp("query-migrate")
        if info.get("status") in ("failed", "cancelled"):
            raise guest.GuestError(f"migration failed: {info.get('error-desc', info)}\n"
                                   f"{target.story()}")
        return info.get("status") == "completed" and info

    return guest.wait_until(ended, 90, "the migration to complete")


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_guest_migrates_while_it_writes(workdir, initrd, qemu10, packed):
    here = guest.Disk("here", workdir, size=256 * MIB, queues=2, lock="start", serial="disk")
    there = guest.Disk("there", workdir, path=here.path, queues=2, lock="start", serial="disk")
    common = {"memory": 256, "packed": packed, "smp": 1}
    source = guest.Qemu("source", workdir, initrd, "serve", **common)
    target = guest.Qemu("target", workdir, initrd, "serve", **common,
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
        info = migrate(source, target, named, workdir / "migration")
        print(f"downtime {info.get('downtime')} ms, {info['ram']['dirty-sync-count']} rounds")
        assert source.qmp("query-status")["status"] == "postmigrate"
        source.qmp("quit")
        target.told = source.told  # the guest's script goes on counting
        target.wait_io(named, 500)
        target.order("stop", "disk")
        target.tell("end")
        target.wait_end()
        assert target.verified(named) > 0
