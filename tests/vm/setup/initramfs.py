"""Build the initramfs of the test guests: busybox, kernel modules, a few host
tools with their libraries, and the scripts of tests/vm/guest.

Called by the guest harness, once per test session. Needs no root: the cpio
archive is written here, file by file, and device nodes come from devtmpfs.
Left uncompressed, because decompression is slow under software emulation.

SPDX-License-Identifier: BSD-3-Clause
"""
import lzma
import os
import pathlib
import re
import shutil
import stat
import subprocess

from debs import Unavailable

BUSYBOX = "/bin/busybox"
DIRECTORIES = ("bin", "sbin", "dev", "proc", "sys", "tmp", "mnt", "run", "host", "modules")


class Cpio:
    """A "newc" archive: 110 bytes of hexadecimal header, name, data, each
    padded to four bytes. Linux, Documentation/driver-api/early-userspace/
    buffer-format.rst."""

    def __init__(self):
        self.parts = []
        self.names = set()

    def _entry(self, name, mode, data):
        if name in self.names:
            return
        self.names.add(name)
        path = name.encode() + b"\0"
        inode = len(self.names)
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        head = b"070701" + "".join(f"{f:08X}" for f in fields).encode() + path
        self.parts += [head, b"\0" * (-len(head) % 4), data, b"\0" * (-len(data) % 4)]

    def directory(self, name):
        if name not in ("", "."):
            self.directory(os.path.dirname(name))
            self._entry(name, stat.S_IFDIR | 0o755, b"")

    def file(self, name, data, mode=0o755):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self.directory(os.path.dirname(name))
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def bytes(self):
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self.parts)


def module_files(folder: pathlib.Path):
    """Module name -> file, for a kernel's modules folder."""
    found = {}
    for path in folder.rglob("*.ko*"):
        found[path.name.split(".ko")[0].replace("-", "_")] = path
    return found


def load_module(path):
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def modules_in_order(folders, wanted):
    """[(name, ELF bytes)]: the wanted modules, each after what it depends on.
    Of two with the same name, that of the later folder. A module that this
    kernel has built in has no file and is left out."""
    files, order, visiting = {}, {}, set()
    for folder in folders:
        files.update(module_files(folder))

    def visit(name):
        name = name.replace("-", "_")
        if name in order or name in visiting or name not in files:
            return
        visiting.add(name)
        data = load_module(files[name])
        depends = re.search(rb"\0depends=([^\0]*)\0", data)
        for other in depends.group(1).decode().split(",") if depends else []:
            visit(other)
        order[name] = data

    for name in wanted:
        visit(name)
    return list(order.items())


def shared_libraries(program):
    out = subprocess.run(["ldd", program], text=True, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL).stdout
    return re.findall(r"(/\S+) \(0x", out)


def add_program(cpio, program, name=None):
    """A program of the host, below /usr/bin of the guest, with its libraries."""
    real = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") or program
    if not os.path.exists(real):
        raise Unavailable(f"{program} is not installed")
    cpio.file(name or f"usr/bin/{os.path.basename(program)}", pathlib.Path(real).read_bytes())
    for library in shared_libraries(real):
        cpio.file(library.lstrip("/"), pathlib.Path(library).read_bytes())


def build(out: pathlib.Path, modules_folders, modules, programs, files):
    """Write the archive to `out`. files: name in the guest -> file of the host."""
    if not os.path.exists(BUSYBOX):
        raise Unavailable("busybox-static is not installed")
    cpio = Cpio()
    for name in DIRECTORIES:
        cpio.directory(name)
    cpio.file("bin/busybox", pathlib.Path(BUSYBOX).read_bytes())
    for applet in subprocess.run([BUSYBOX, "--list"], text=True, check=True,
                                 stdout=subprocess.PIPE).stdout.split():
        if applet != "busybox":
            cpio.symlink(f"bin/{applet}", "busybox")
    order = modules_in_order(modules_folders, modules)
    for name, data in order:
        cpio.file(f"modules/{name}.ko", data, 0o644)
    cpio.file("modules/order", "".join(f"{n}\n" for n, _ in order).encode(), 0o644)
    for program in programs:
        add_program(cpio, program)
    for name, source in files.items():
        cpio.file(name, pathlib.Path(source).read_bytes())
    out.write_bytes(cpio.bytes())
    return out
