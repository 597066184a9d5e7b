"""Changes while a guest does I/O: memory comes and goes, the device is taken
out and put back, the disk grows, the back-end is restarted. tagio in the guest
knows what every block must hold, and says in the end whether it did.

SPDX-License-Identifier: BSD-3-Clause
"""
import guest
import pytest
from conftest import need_qemu

MIB = 1 << 20
BLOCKS = 2000  # of 4 KiB, per thread of tagio


@pytest.fixture
def disks(workdir):
    """Two disks of one back-end: what happens to one must not stop the other."""
    return [guest.Disk(name, workdir, size=256 * MIB, queues=2) for name in ("disk1", "disk2")]


def start(workdir, initrd, server, disks, **kwargs):
    machine = guest.Qemu("guest", workdir, initrd, "serve", **kwargs).start(disks, server)
    machine.wait_for("READY")
    return machine


def begin(machine, disk, threads=2, memory=16):
    machine.order("start", disk.name, threads, BLOCKS, memory)
    machine.wait_io(disk)


def finish(machine, *disks):
    for disk in disks:
        machine.order("stop", disk.name)
    machine.tell("end")
    machine.wait_end()
    for disk in disks:
        assert machine.verified(disk) > 0


def add_memory(machine, name, megabytes):
    machine.qmp("object-add", **{"qom-type": "memory-backend-memfd", "id": f"m-{name}",
                                 "size": megabytes * MIB, "share": True})
    machine.qmp("device_add", driver="pc-dimm", id=name, memdev=f"m-{name}")


@pytest.mark.parametrize("version,packed", [("10", False), ("10", True), ("7.2", False)],
                         ids=["split", "packed", "7.2"])
def test_memory_is_added_and_removed_while_io_runs(workdir, initrd, disks, version, packed):
    need_qemu(version)
    first, second = disks
    with guest.backend(workdir, disks) as server, \
            start(workdir, initrd, server, disks, version=version, memory=320,
                  packed=packed) as machine:
        begin(machine, first)
        add_memory(machine, "dimm1", 512)
        machine.order("memory", 640)
        # More buffers than the guest had memory at first: the new memory serves.
        begin(machine, second, memory=400)
        machine.wait_io(second, 1000)
        machine.order("stop", second.name)
        machine.wait_io(first)
        machine.qmp("device_del", id="dimm1")
        machine.qmp.wait_event("DEVICE_DELETED", device="dimm1")
        machine.wait_io(first, 500)
        finish(machine, first)
        assert machine.verified(second) > 0


@pytest.mark.parametrize("version", ["10", "7.2"])
def test_device_is_unplugged_and_plugged_again(workdir, initrd, disks, version):
    need_qemu(version)
    staying, moving = disks
    with guest.backend(workdir, disks) as server, \
            start(workdir, initrd, server, disks, version=version) as machine:
        begin(machine, staying)
        begin(machine, moving)
        machine.order("stop", moving.name)
        for keep_connection in (True, False):
            machine.qmp("device_del", id=moving.name)
            machine.order("gone", moving.name)
            machine.qmp.wait_event("DEVICE_DELETED", device=moving.name)
            if not keep_connection:
                machine.qmp("chardev-remove", id=f"c_{moving.name}")
                add_chardev(machine, moving)
            device = machine.device(moving, 1)
            machine.qmp("device_add", **device)
            machine.order("disk", moving.name)
            begin(machine, moving)
            machine.order("stop", moving.name)
            assert machine.verified(moving) > 0
        finish(machine, staying)


def add_chardev(machine, disk):
    address = {"type": "unix", "data": {"path": str(disk.socket)}}
    machine.qmp("chardev-add", id=f"c_{disk.name}",
                backend={"type": "socket", "data": {"addr": address, "server": False}})


def test_guest_sees_a_resize_while_io_runs(workdir, initrd, qemu10, disks):
    first, _ = disks
    with guest.backend(workdir, disks) as server, \
            start(workdir, initrd, server, disks) as machine:
        begin(machine, first)
        server.ctl("resize", first.name, "384M")
        machine.order("sized", first.name, 384 * MIB)
        assert first.path.stat().st_size == 384 * MIB
        machine.wait_io(first)
        finish(machine, first)


@pytest.mark.parametrize("version,packed", [("10", False), ("10", True), ("7.2", True)],
                         ids=["split", "packed", "7.2"])
def test_io_pauses_and_resumes_over_restarts(workdir, initrd, disks, version, packed):
    """Whatever ends the program: QEMU keeps for the next one what was in flight."""
    need_qemu(version)
    with guest.backend(workdir, disks) as server, \
            start(workdir, initrd, server, disks, version=version, smp=2,
                  packed=packed) as machine:
        for disk in disks:
            begin(machine, disk)
        assert all(d["in-flight-kept"] for d in server.status()["devices"])
        for how in ("kill", "stop", "kill", "kill"):
            machine.servers = []
            getattr(server, how)()
            for disk in disks:
                disk.socket.unlink(missing_ok=True)
            server.start()
            machine.servers = [server]
            for disk in disks:
                machine.wait_io(disk)
        finish(machine, *disks)
