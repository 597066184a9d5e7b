#!/usr/bin/env python3
"""Fetch what real guests need, once, into a cache outside the source tree.

    assets.py [--refresh] [kernel] [modules] [qemu7] [uml] [blkio] [ovs]

kernel  Debian's full kernel from backports: an uncompressed vmlinux, modules
modules what Debian does not build for it: iommufd, VFIO's character devices,
        netdevsim, compiled from Debian's source package
qemu7   Debian 12's own QEMU, beside the newer one apt has installed
uml     User-mode Linux: a second kernel with a vhost-user front-end of its own
blkio   libblkio from the next Debian release, with the C library it needs
ovs     Open vSwitch with DPDK, for comparisons; only when it is named

Called by `make` before guests are started; tests ask locate(). What cannot be
had is recorded with its reason, and the tests that need it are skipped with
that reason. Nothing is installed, nothing needs root.

SPDX-License-Identifier: BSD-3-Clause
"""
import hashlib
import lzma
import os
import pathlib
import shutil
import struct
import sys
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import debs  # noqa: E402
import modules  # noqa: E402
from debs import Unavailable  # noqa: E402

ZSTD_MAGIC, XZ_MAGIC, GZIP_MAGIC = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"\x1f\x8b"
# The release after Debian 12 has libblkio; Debian 12 has not.
BLKIO_SUITE = "trixie"


def cache_dir():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("RINGBOLT_CACHE") or f"{base}/ringbolt")


def vmlinux_from_bzimage(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage. It has a PVH entry, so QEMU starts it
    without running the decompressor, which software emulation makes slow.
    Offsets: Linux, Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
    """
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start:start + length]
    if payload.startswith(ZSTD_MAGIC):
        # The last four bytes are the size, and no part of the zstd frame.
        out = debs.subprocess.run(["zstd", "-dcq"], input=payload[:-4], check=True,
                                  stdout=debs.subprocess.PIPE).stdout
    elif payload.startswith(XZ_MAGIC):
        out = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(GZIP_MAGIC):
        out = zlib.decompressobj(31).decompress(payload)
    else:
        raise Unavailable(f"kernel payload {payload[:6].hex()} has an unknown compression")
    if not out.startswith(b"\x7fELF"):
        raise Unavailable("the kernel image holds no ELF file")
    return out


def fetch_kernel(root, state):
    archive = debs.Archive(state, debs.os_codename() + "-backports")
    package = archive.dependency("linux-image-amd64", r"linux-image-\d.*-amd64")
    archive.unpack([package], root)
    release = package.removeprefix("linux-image-")
    image = root / "boot" / f"vmlinuz-{release}"
    (root / "vmlinux").write_bytes(vmlinux_from_bzimage(image.read_bytes()))
    return release


def modules_version():
    """Kernel and recipe: with either, the modules are others."""
    recipe = hashlib.sha256(pathlib.Path(modules.__file__).read_bytes()).hexdigest()[:12]
    return f"{locate('kernel')[1]} {recipe}"


def fetch_modules(root, state):
    archive = debs.Archive(state, debs.os_codename() + "-backports")
    try:
        modules.build(archive, root, locate("kernel")[1])
    except Unavailable:
        # The archive keeps one version: a cached kernel may be older than that.
        if archive.dependency("linux-image-amd64", r"linux-image-\d.*-amd64") == \
                "linux-image-" + locate("kernel")[1] or not fetch("kernel", refresh=True):
            raise
        shutil.rmtree(root)
        root.mkdir()
        modules.build(archive, root, locate("kernel")[1])
    return modules_version()


def fetch_qemu7(root, state):
    archive = debs.Archive(state, debs.os_codename())
    archive.unpack(["qemu-system-x86"], root, closure=True)
    program = root / "usr/bin/qemu-system-x86_64"
    version = debs.run([*debs.libraries_first(root), str(program), "--version"]).splitlines()[0]
    if "version 7.2" not in version:
        raise Unavailable(f"this release has {version}, not QEMU 7.2")
    return version.split()[3]


def fetch_uml(root, state):
    archive = debs.Archive(state, debs.os_codename())
    archive.unpack(["user-mode-linux"], root)
    modules = root / "usr/lib/uml/modules"
    return next(iter(sorted(p.name for p in modules.iterdir())))


def fetch_blkio(root, state):
    archive = debs.Archive(state, BLKIO_SUITE)
    names = archive.unpack(["libblkio-dev"], root, closure=True)
    return next(n.split("_")[1] for n in names if n.startswith("libblkio1_"))


def fetch_ovs(root, state):
    """Unpacked and not installed: the packages would start a switch that takes
    the machine's network devices. It finds libdpdk where that is installed."""
    archive = debs.Archive(state, debs.os_codename())
    names = archive.unpack(["openvswitch-switch-dpdk", "openvswitch-switch",
                            "openvswitch-common", "libunbound8", "libevent-2.1-7",
                            "libcap-ng0"], root)
    return next(n.split("_")[1] for n in names if n.startswith("openvswitch-switch-dpdk_"))


ASSETS = {"kernel": fetch_kernel, "modules": fetch_modules, "qemu7": fetch_qemu7,
          "uml": fetch_uml, "blkio": fetch_blkio, "ovs": fetch_ovs}
# What no test needs.
ON_DEMAND = ("ovs",)


def is_current(name):
    """Is the asset there, and made for what else is there?"""
    version = cache_dir() / name / "VERSION"
    if not version.exists():
        return False
    try:
        return name != "modules" or version.read_text().strip() == modules_version()
    except Unavailable:
        return False


def locate(name):
    """(folder, version) of a fetched asset, or Unavailable with the reason."""
    root = cache_dir() / name
    if is_current(name):
        return root, (root / "VERSION").read_text().strip()
    reason = cache_dir() / f"{name}.unavailable"
    if reason.exists():
        raise Unavailable(f"{name}: {reason.read_text().strip()}")
    raise Unavailable(f"{name} was not fetched (run tests/vm/setup/assets.py {name})")


def fetch(name, refresh=False):
    """True when the asset is there, fetched now if need be."""
    cache = cache_dir()
    root, part, reason = cache / name, cache / f"{name}.part", cache / f"{name}.unavailable"
    if not refresh and is_current(name):
        return True
    start = time.monotonic()
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        version = ASSETS[name](part, cache / "apt")
    except (Unavailable, OSError, debs.subprocess.SubprocessError) as e:
        shutil.rmtree(part, ignore_errors=True)
        reason.write_text(f"{e}\n")
        print(f"setup: {name}: cannot be had: {e}", file=sys.stderr, flush=True)
        return is_current(name)
    (part / "VERSION").write_text(f"{version}\n")
    shutil.rmtree(root, ignore_errors=True)
    part.rename(root)
    reason.unlink(missing_ok=True)
    print(f"setup: {name} {version} ({time.monotonic() - start:.0f} s)", flush=True)
    return True


def main(argv):
    refresh = "--refresh" in argv
    names = [a for a in argv if a != "--refresh"]
    for name in names:
        if name not in ASSETS:
            sys.exit(f"assets.py: unknown asset {name}; known: {' '.join(ASSETS)}")
    # Without a name, all are wanted and none is required.
    wanted = names or [name for name in ASSETS if name not in ON_DEMAND]
    got = [fetch(name, refresh) for name in wanted]
    return 0 if all(got) or not names else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
