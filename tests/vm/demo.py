#!/usr/bin/env python3
"""The demonstration behind `make demo`: a Linux guest uses a disk that
ringbolt-blk serves, two others talk over a switch of ringbolt-net (demo_net.py),
and a report says what happened.

Makes everything it needs in a scratch folder that it removes again; when a
step fails it names the cause, keeps the folder and exits with status 1.

SPDX-License-Identifier: BSD-3-Clause
"""
import pathlib
import shutil
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import demo_net  # noqa: E402
import guest  # noqa: E402

DISK_BYTES = 1 << 30
FILE_MEGABYTES = 32
MEMORY = 384


class Progress:
    def __init__(self):
        self.start = time.monotonic()

    def __call__(self, text):
        print(f"[{time.monotonic() - self.start:5.1f} s] {text}", flush=True)


def mib(count):
    return f"{int(count) / (1 << 20):.0f} MiB"


def counters(status):
    """Sums over all rings of the one device: {counter: value}."""
    totals = {}
    for ring in status["devices"][0]["rings"]:
        for name, value in ring.items():
            if isinstance(value, int) and not isinstance(value, bool):
                totals[name] = totals.get(name, 0) + value
    return totals


def run_guest(machine, disk, step):
    """Follow the guest through its test; what the report needs to know."""
    facts = {"kernel": machine.wait_for("INIT").split("=", 1)[1]}
    step(f"guest: Linux {facts['kernel']} runs, under software emulation")
    machine.wait_for("DISK")
    facts["disk"] = machine.values("DISK")
    step(f"guest: found the disk, {mib(facts['disk']['bytes'])}, "
         f"{facts['disk']['queues']} queues, "
         f"{'packed' if facts['disk']['packed'] == '1' else 'split'} rings")
    machine.wait_for("FORMATTED")
    step("guest: made an ext4 file system and mounted it")
    machine.wait_for("WRITTEN")
    facts["written"] = machine.values("WRITTEN")
    step(f"guest: wrote {facts['written']['files']} files, "
         f"{int(facts['written']['kib']) // 1024} MiB, and took their checksums")
    before = disk.allocated()
    machine.wait_for("VERIFIED")
    facts["verified"] = machine.values("VERIFIED")["files"]
    step("guest: dropped its caches, read everything back, every checksum is right")
    machine.wait_for("TRIMMED")
    machine.wait_for("CHECKED")
    facts["given_back"] = before - disk.allocated()
    step(f"guest: deleted a file and ran fstrim, the image file is "
         f"{mib(facts['given_back'])} smaller on the host's disk")
    if facts["given_back"] <= 0:
        raise guest.GuestError("fstrim gave the host no space back")
    return facts


def report(facts, totals, seconds):
    disk = facts["disk"]
    print(f"""
  Ringbolt served a disk to a virtual machine
    guest kernel   Linux {facts['kernel']} (QEMU, vhost-user-blk-pci)
    disk           {mib(disk['bytes'])} raw image, io_uring, {disk['queues']} queues
    requests       {totals['requests']} served, {totals['errors']} failed
    verification   {facts['verified']} of {facts['written']['files']} files identical, \
file system clean
    discard        {mib(facts['given_back'])} given back to the host
    time           {seconds:.0f} s in all

  To give a disk to a VM of your own:
    ringbolt-blk --socket-path=/run/vm1-disk.sock --blk-file=/path/disk.raw

  QEMU (the guest's memory must be shared):
    -object memory-backend-memfd,id=mem,size=2G,share=on -m 2G
    -machine q35,memory-backend=mem
    -chardev socket,id=disk,path=/run/vm1-disk.sock,reconnect-ms=500
    -device vhost-user-blk-pci,chardev=disk,num-queues=1

  libvirt, in <domain>:
    <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
    <disk type='vhostuser' device='disk'>
      <driver name='qemu' type='raw' queues='1'/>
      <source type='unix' path='/run/vm1-disk.sock'>
        <reconnect enabled='yes' timeout='1'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>
""")


def demonstrate(workdir, step):
    start = time.monotonic()
    initrd = guest.build_initrd(workdir)
    step("built the guest's initramfs")
    disk = guest.Disk("demo", workdir, size=DISK_BYTES, queues=2)
    step(f"made a {mib(DISK_BYTES)} disk image")
    with guest.backend(workdir, [disk]) as server:
        step("started ringbolt-blk")
        machine = guest.Qemu("guest", workdir, initrd, "demo", memory=MEMORY, smp=2,
                             arguments=f"disk={disk.name} megabytes={FILE_MEGABYTES}")
        with machine.start([disk], server):
            facts = run_guest(machine, disk, step)
            totals = counters(server.status())
            machine.tell("bye")
            machine.wait_end()
            step("guest: powered off")
        server.stop()
        step("ended ringbolt-blk")
    report(facts, totals, time.monotonic() - start)


def main():
    workdir = pathlib.Path(tempfile.mkdtemp(prefix="ringbolt-demo."))
    try:
        step = Progress()
        demonstrate(workdir, step)
        demo_net.demonstrate(workdir, step)
    except (guest.GuestError, guest.Unavailable, OSError, KeyError) as e:
        reason = f"status has no {e}" if isinstance(e, KeyError) else e
        print(f"\ndemo failed: {reason}\nlogs are in {workdir}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        shutil.rmtree(workdir, ignore_errors=True)
        return 130
    shutil.rmtree(workdir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
