"""Real guests for the tests and the demo: a back-end, a virtual machine whose
disks it serves, and what the guest says on its serial line.

Used by conftest.py, the tests of tests/vm and tests/interop, and demo.py.
Everything is one process per object, started in its own process group and
ended by its owner; every wait has a deadline. The accelerator is always TCG,
so that a test means the same on every machine. Nothing here retries: a guest
that fails once has failed.

SPDX-License-Identifier: BSD-3-Clause
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE / "setup"))
import assets  # noqa: E402
import debs  # noqa: E402
import initramfs  # noqa: E402
from debs import Unavailable  # noqa: E402, F401

# No guest needs longer than this, on the slowest machine that is worth using.
GUEST_LIFETIME = 240
MODULES = ("virtio_blk", "crc32c_generic", "ext4", "xfs", "9pnet_virtio", "9p")
PROGRAMS = ("mke2fs", "e2fsck", "mkfs.xfs", "xfs_repair", "fstrim", "blkdiscard", "sfdisk")
# What a boot under software emulation can do without.
KERNEL_OPTIONS = ("console=ttyS0 quiet tsc=reliable no_timer_check mitigations=off "
                  "cryptomgr.notests net.ifnames=0 panic=-1 memhp_default_state=online_movable")


class GuestError(Exception):
    """A guest or a back-end did not do what it must."""


def wait_until(condition, timeout, what):
    """Poll until condition() is true; the value, or GuestError."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise GuestError(f"waited {timeout} s for {what}")
        time.sleep(0.02)


def children_of(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(child) for child in text.split()]


def descendants_of(pid):
    return [d for child in children_of(pid) for d in (child, *descendants_of(child))]


def is_running(pid):
    """Has any thread of it still to end?"""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            state = f.read().rpartition(")")[2].split()[0]
        return state not in "ZX" or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


class Process:
    """A program of ours, its output in a file, ended with its whole group."""

    def __init__(self, name, argv, log: pathlib.Path, lifetime=GUEST_LIFETIME, **kwargs):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            out.write((" ".join(argv) + "\n").encode())
            out.flush()
            # The outer limit holds even if this Python is killed.
            self.popen = subprocess.Popen(
                ["timeout", "-k", "5", str(lifetime + 60), *argv],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                **kwargs)

    @property
    def alive(self):
        return self.popen.poll() is None

    def tail(self, lines=12):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def signal(self, number):
        """Send a signal to the program itself, past timeout(1)."""
        for pid in children_of(self.popen.pid):
            os.kill(pid, number)

    def wait(self, timeout):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise GuestError(f"{self.name} did not end within {timeout} s\n"
                             + self.tail()) from None

    def kill(self):
        """End it at once, and wait until its sockets are closed."""
        if self.alive:
            # User-mode Linux leaves the group and has children of its own.
            below = descendants_of(self.popen.pid)
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
            for pid in below:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_until(lambda: not any(map(is_running, below)), 10, f"{self.name} to be gone")


class Disk:
    """One disk of a back-end: an image file, or a store without a file."""

    def __init__(self, name, workdir, size=None, store=None, queues=1, path=None, **keys):
        self.name, self.queues, self.keys = name, queues, keys
        self.socket = workdir / f"{name}.sock"
        self.path = path
        if store is None:
            self.path = path or workdir / f"{name}.raw"
            if not self.path.exists():
                with open(self.path, "wb") as f:
                    f.truncate(size)
            store = f"uring:{self.path}"
        self.store = store

    def allocated(self):
        """Bytes the image takes on the host's disk."""
        return os.stat(self.path).st_blocks * 512


class Backend:
    """A running back-end program. Used as a context manager, it ends with
    SIGTERM and must then exit with status 0. sockets: where it listens."""

    program_name = None

    def __init__(self, workdir, name, sockets, options=()):
        build = pathlib.Path(os.environ.get("RINGBOLT_BUILD", ROOT / "build"))
        self.program = build / "apps" / self.program_name
        self.ctl_program = build / "apps/ringboltctl"
        self.workdir, self.sockets, self.options = workdir, list(sockets), list(options)
        # Each back-end of a test has a control socket of its own.
        self.control = workdir / f"{name}.ctl"
        self.process = None

    def argv(self):
        raise NotImplementedError

    def start(self):
        if not self.program.exists():
            raise GuestError(f"{self.program} is not built (make)")
        self.process = Process(self.program.name, self.argv(), self.workdir / "backend.log")
        for path in self.sockets:
            wait_until(lambda: path.is_socket() or not self.process.alive, 20, f"{path}")
        self.check()
        return self

    def check(self):
        if not self.process.alive:
            raise GuestError(f"{self.program.name} has ended\n" + self.process.tail())

    def ctl(self, *args, check=True):
        """Run ringboltctl; what it printed."""
        argv = [str(self.ctl_program), "--control", str(self.control), *args]
        done = subprocess.run(argv, text=True, stdin=subprocess.DEVNULL, timeout=30,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if check and done.returncode != 0:
            raise GuestError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout

    def status(self):
        return json.loads(self.ctl("status", "--json"))

    def stop(self):
        """End it as an administrator would."""
        self.check()
        self.process.signal(signal.SIGTERM)
        status = self.process.wait(15)
        if status != 0:
            raise GuestError(f"{self.program.name} exited with {status}\n"
                             + self.process.tail(40))

    def kill(self):
        if self.process:
            self.process.kill()

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process.alive:
                self.stop()
        finally:
            self.kill()


class RingboltBlk(Backend):
    program_name = "ringbolt-blk"

    def __init__(self, workdir, disks, options=()):
        super().__init__(workdir, disks[0].name, [d.socket for d in disks], options)
        self.disks = disks

    def argv(self):
        argv = [str(self.program), "--control", str(self.control), *self.options]
        for disk in self.disks:
            keys = {"name": disk.name, "socket": disk.socket, "store": disk.store,
                    "queues": disk.queues, "serial": disk.name, **disk.keys}
            argv += ["--device", ",".join(f"{k}={v}" for k, v in keys.items())]
        return argv


class StorageDaemon(RingboltBlk):
    """qemu-storage-daemon in the same role. RINGBOLT_VM_BACKEND=qsd puts it
    there, to see whether a failure is the back-end's or the test's own."""

    def __init__(self, workdir, disks, options=()):
        super().__init__(workdir, disks, options)
        self.program = pathlib.Path(shutil.which("qemu-storage-daemon") or "/nonexistent")

    def argv(self):
        argv = [str(self.program)]
        for disk in self.disks:
            name = disk.name
            disk.socket.unlink(missing_ok=True)
            node = (f"driver=file,node-name={name},filename={disk.path},discard=unmap,"
                    "locking=off" if disk.path else f"driver=null-co,node-name={name},size=1G")
            argv += ["--blockdev", node,
                     "--export", f"type=vhost-user-blk,id=e_{name},node-name={name},"
                     f"addr.type=unix,addr.path={disk.socket},writable=on,"
                     f"num-queues={disk.queues}"]
        return argv

    def stop(self):
        self.process.signal(signal.SIGTERM)
        self.process.wait(15)

    def status(self):
        return {}


def backend(workdir, disks, options=()):
    if os.environ.get("RINGBOLT_VM_BACKEND") == "qsd":
        return StorageDaemon(workdir, disks, options)
    return RingboltBlk(workdir, disks, options)


class Qmp:
    """QEMU's machine protocol: one command at a time, events kept in a list."""

    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.file = self.sock.makefile("rw")
        self.events = []
        self._read()
        self("qmp_capabilities")

    def _read(self):
        line = self.file.readline()
        if not line:
            raise GuestError("QEMU closed its QMP connection")
        return json.loads(line)

    def __call__(self, command, **arguments):
        json.dump({"execute": command, "arguments": arguments}, self.file)
        self.file.write("\n")
        self.file.flush()
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise GuestError(f"QMP {command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait_event(self, name, timeout=30, **data):
        """Take the first event of this name whose data has these values."""
        def matches(event):
            return event["event"] == name and all(
                event.get("data", {}).get(k) == v for k, v in data.items())

        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if matches(event):
                    self.events.remove(event)
                    return event
            if time.monotonic() > deadline:
                raise GuestError(f"no QMP event {name} {data} within {timeout} s")
            self("query-status")
            time.sleep(0.05)


class Guest:
    """What all virtual machines here have in common: a serial log with marks."""

    lifetime = GUEST_LIFETIME

    def __init__(self, name, workdir):
        self.name, self.workdir = name, workdir
        self.serial = workdir / f"{name}.serial"
        self.process = None
        self.deadline = 0
        self.servers = []  # back-ends that must live as long as this guest

    def launch(self, argv, **kwargs):
        self.deadline = time.monotonic() + self.lifetime
        self.process = Process(self.name, argv, self.workdir / f"{self.name}.log", self.lifetime,
                               **kwargs)

    def text(self):
        if not self.serial.exists():
            return ""
        return self.serial.read_text(errors="replace").replace("\r", "")

    def marks(self, name):
        """The words after each @@name the guest has said so far."""
        return re.findall(rf"^.*?@@{name}\b ?(.*)$", self.text(), re.M)

    def values(self, name, index=-1):
        """The last (or index-th) @@name as a dictionary of its key=value words."""
        found = self.marks(name)
        if not found:
            raise GuestError(f"{self.name} never said @@{name}\n{self.story()}")
        return dict(w.split("=", 1) for w in found[index].split() if "=" in w)

    def story(self):
        return (f"--- last lines of {self.serial}\n" + "\n".join(self.text().splitlines()[-25:])
                + f"\n--- {self.process.log}\n" + self.process.tail())

    def _check(self):
        text = self.text()
        bad = re.search(r"@@FAIL.*|Kernel panic.*|BUG: .*|@@NOMODULE.*", text)
        if bad:
            raise GuestError(f"{self.name}: {bad.group(0)}\n{self.story()}")
        for server in self.servers:
            server.check()
        if time.monotonic() > self.deadline:
            raise GuestError(f"{self.name} ran longer than {self.lifetime} s\n{self.story()}")
        return text

    def wait_for(self, name, count=1, timeout=90):
        """Wait for the count-th @@name; the words after it."""
        def said():
            alive = self.process.alive  # before the text: it may end meanwhile
            self._check()
            found = self.marks(name)
            if len(found) >= count:
                return found
            if not alive:
                raise GuestError(f"{self.name} ended before @@{name}\n{self.story()}")
            return None

        try:
            return wait_until(said, timeout, f"@@{name} from {self.name}")[count - 1]
        except GuestError as e:
            if "waited" in str(e):
                raise GuestError(f"{e}\n{self.story()}") from None
            raise

    def wait_end(self, timeout=90):
        """Wait for a clean power-off after a test that ended with status 0."""
        self.process.wait(timeout)
        self._check()
        if self.marks("RC")[-1:] != ["0"]:
            raise GuestError(f"{self.name}: the test in the guest failed: "
                             f"@@RC {self.marks('RC')}\n{self.story()}")

    def io_ops(self, disk):
        """Operations tagio has done on this disk, by its last reports."""
        return [int(n) for n in re.findall(rf"@@IO name={disk.name} ops=(\d+)", self.text())]

    def wait_io(self, disk, ops=200, timeout=60):
        """Wait until tagio has done this many operations more on a disk, as
        counted from its next report."""
        reports = len(self.io_ops(disk))
        try:
            wait_until(lambda: self._check() and len(self.io_ops(disk)) > reports
                       and self.io_ops(disk)[-1] >= self.io_ops(disk)[reports] + ops,
                       timeout, f"I/O of {self.name} on {disk.name} to go on")
        except GuestError as e:
            status = "\n".join(server.ctl("status", "--json") for server in self.servers)
            raise GuestError(f"{e}\n{self.story()}\n{status}") from None

    def verified(self, disk):
        """What tagio found in the end on this disk: blocks written, none bad."""
        found = [v for v in self.marks("VERIFY") if v.startswith(f"name={disk.name} ")]
        if not found:
            raise GuestError(f"{self.name} verified nothing on {disk.name}\n{self.story()}")
        counts = dict(w.split("=") for w in found[-1].split())
        if counts["bad"] != "0" or counts["errors"] != "0":
            raise GuestError(f"{self.name}: {found[-1]}\n{self.story()}")
        return int(counts["blocks"])

    def kill(self):
        if self.process:
            self.process.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def qemu_command(version):
    """(command prefix, environment, reconnect option) of a QEMU: "10" is the
    one that is installed, "7.2" Debian 12's own."""
    if version == "7.2":
        root, _ = assets.locate("qemu7")
        libdir = root / "usr/lib/x86_64-linux-gnu/qemu"
        command = [*debs.libraries_first(root), str(root / "usr/bin/qemu-system-x86_64"),
                   "-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios"),
                   "-L", str(root / "usr/lib/ipxe/qemu")]
        return command, {**os.environ, "QEMU_MODULE_DIR": str(libdir)}, "reconnect=1"
    program = shutil.which("qemu-system-x86_64")
    if not program:
        raise Unavailable("qemu-system-x86_64 is not installed")
    words = debs.run([program, "--version"]).split()
    if int(words[3].split(".")[0]) < 8:
        raise Unavailable(f"the installed QEMU is {words[3]}, a newer one cannot be had")
    return [program], dict(os.environ), "reconnect-ms=200"


class Qemu(Guest):
    """A Linux guest under QEMU, software emulation only."""

    def __init__(self, name, workdir, initrd, test, *, version="10", memory=384, smp=1,
                 packed=False, arguments="", extra=()):
        super().__init__(name, workdir)
        self.command, self.env, self.reconnect = qemu_command(version)
        self.kernel = assets.locate("kernel")[0] / "vmlinux"
        self.initrd, self.test, self.arguments = initrd, test, arguments
        self.memory, self.smp, self.packed, self.extra = memory, smp, packed, list(extra)
        self.word_socket = workdir / f"{name}.word"
        self.qmp_socket = workdir / f"{name}.qmp"
        self.told = 0
        self._qmp = None

    def chardev(self, disk):
        return f"socket,id=c_{disk.name},path={disk.socket},{self.reconnect}"

    def device(self, disk, port):
        """The -device properties of a disk, as QMP's device_add takes them."""
        return {"driver": "vhost-user-blk-pci", "id": disk.name, "chardev": f"c_{disk.name}",
                "num-queues": disk.queues, "packed": self.packed, "bus": f"port{port}"}

    def argv(self, disks):
        append = f"{KERNEL_OPTIONS} test={self.test} {self.arguments}"
        # maxcpus: of a machine that can have one processor only, QEMU translates
        # locked instructions into plain ones, and with them the guest's fences.
        # Between a guest and a back-end those are needed all the same: without, a
        # notification can be lost.
        argv = [*self.command, "-nodefaults", "-no-user-config", "-display", "none",
                "-machine", "q35,memory-backend=m0", "-accel", "tcg,thread=multi",
                "-cpu", "max", "-smp", f"{self.smp},maxcpus={max(2, self.smp)}", "-m", f"{self.memory},slots=4,maxmem=4G",
                "-object", f"memory-backend-memfd,id=m0,size={self.memory}M,share=on",
                "-kernel", str(self.kernel), "-initrd", str(self.initrd), "-append", append,
                "-serial", f"file:{self.serial}",
                "-chardev", f"socket,id=word,path={self.word_socket},server=on,wait=off",
                "-serial", "chardev:word",
                "-qmp", f"unix:{self.qmp_socket},server=on,wait=off"]
        for port, disk in enumerate(disks):
            device = self.device(disk, port)
            device["packed"] = "on" if self.packed else "off"
            argv += ["-device", f"pcie-root-port,id=port{port},chassis={port + 1},slot={port + 1}",
                     "-chardev", self.chardev(disk),
                     "-device", device.pop("driver") + "".join(
                         f",{k}={v}" for k, v in device.items())]
        return argv + self.extra

    def start(self, disks, *servers):
        self.servers = list(servers)
        self.launch(self.argv(disks), env=self.env)
        return self

    @property
    def qmp(self):
        if self._qmp is None:
            wait_until(lambda: self.qmp_socket.exists() or not self.process.alive, 10,
                       f"QMP of {self.name}")
            self._qmp = Qmp(self.qmp_socket)
        return self._qmp

    def tell(self, *words, timeout=30):
        """Say a line to the guest, which waits for it (wait_host, serve.sh).
        The line is repeated, with the same number, until it is heard."""
        self.told += 1
        line = f"say {self.told} {' '.join(str(w) for w in words)}\n".encode()
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.word_socket))
        with sock:
            def heard():
                sock.sendall(line)
                for _ in range(10):
                    time.sleep(0.01)
                    self._check()
                    if str(self.told) in self.marks("HEARD"):
                        return True
                return False

            wait_until(heard, timeout, f"{self.name} to hear {line!r}")

    def order(self, *words, timeout=60):
        """Have serve.sh do something, and wait until it is done."""
        self.tell(*words)
        wait_until(lambda: self._check() and str(self.told) in self.marks("DID"), timeout,
                   f"{self.name} to do {words}")


class Uml(Guest):
    """User-mode Linux: a guest kernel that is an ordinary program, with a
    vhost-user front-end of its own. Its console is its standard output."""

    def __init__(self, name, workdir, initrd, test, *, memory=256, arguments=""):
        super().__init__(name, workdir)
        self.program = assets.locate("uml")[0] / "usr/bin/linux.uml"
        self.initrd, self.test, self.memory, self.arguments = initrd, test, memory, arguments
        self.serial = workdir / f"{name}.log"

    def start(self, disks, *servers):
        self.servers = list(servers)
        argv = [str(self.program), f"mem={self.memory}M", f"initrd={self.initrd}", "quiet",
                "con0=null,fd:1", "con=null", "panic=-1", f"test={self.test}",
                *self.arguments.split()]
        # VIRTIO_ID_BLOCK is 2. Guest memory is a file in TMPDIR.
        argv += [f"virtio_uml.device={disk.socket}:2" for disk in disks]
        helper = self.workdir / "uml_xstate.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", helper,
                        ROOT / "tests/interop/uml_xstate.c"], check=True)
        # Not in this process's environment: timeout(1) does not want it.
        self.launch(["env", f"LD_PRELOAD={helper}", *argv],
                    env={**os.environ, "TMPDIR": "/dev/shm"})
        return self


def host_share():
    """QEMU options that show the guest the host's file system, read-only, so
    that it can run the host's larger programs."""
    return ["-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]


def build_tagio(workdir):
    """Compile the in-guest verifier, statically."""
    program = workdir / "tagio"
    subprocess.run(["cc", "-O2", "-static", "-o", program, HERE / "guest/tagio.c", "-lpthread"],
                   check=True)
    return program


def guest_files(workdir):
    """What of tests/vm/guest goes into an initramfs: name in the guest -> file."""
    files = {"init": HERE / "guest/init", "bin/tagio": build_tagio(workdir)}
    for script in (HERE / "guest").glob("*.sh"):
        files[f"tests/{script.name}"] = script
    return files


def kernel_modules():
    """Folder of the modules of the guests' kernel."""
    root, release = assets.locate("kernel")
    folder = root / "lib/modules" / release
    return folder if folder.exists() else root / "usr/lib/modules" / release


def build_initrd(workdir):
    """The initramfs of all QEMU guests but those of lab.py."""
    return initramfs.build(workdir / "initrd.cpio", [kernel_modules()], MODULES, PROGRAMS,
                           guest_files(workdir))


def build_uml_initrd(workdir):
    """The same for User-mode Linux, whose kernel is another one."""
    root, release = assets.locate("uml")
    return initramfs.build(workdir / "initrd-uml.cpio",
                           [root / "usr/lib/uml/modules" / release], MODULES, PROGRAMS,
                           guest_files(workdir))
