"""Kernel modules that Debian does not build, for the kernel it does build:
iommufd, VFIO with its character devices and no-IOMMU mode, netdevsim.

Called by assets.py. Sources, headers and build tools are Debian's packages for
exactly the guests' kernel, unpacked into a folder; nothing is installed. The
kernel's own Makefiles are used, with a few options switched on by hand: what
Debian has off cannot be asked of its configuration. A kernel of our own would
do the same in ten times the time.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import pathlib
import re
import shutil
import subprocess

from debs import Unavailable, run

# Of the source package. VFIO's parts depend on each other's options (struct
# vfio_device differs), so all of them are built together.
SOURCES = ("drivers/iommu/iommufd", "drivers/iommu/iommu-priv.h", "drivers/vfio",
           "drivers/net/netdevsim", "lib/interval_tree.c")
FOLDERS = ("drivers/iommu/iommufd", "drivers/vfio", "drivers/net/netdevsim")
# option -> value: for make, and for the compiler as the kernel's autoconf.h would
# say it. Empty is off.
OPTIONS = {"CONFIG_IOMMUFD": "m", "CONFIG_VFIO_DEVICE_CDEV": "y", "CONFIG_VFIO_NOIOMMU": "y",
           "CONFIG_NETDEVSIM": "m", "CONFIG_INTERVAL_TREE_SPAN_ITER": "y",
           "CONFIG_VFIO_MDEV": "", "CONFIG_DEBUG_INFO_BTF_MODULES": ""}


def packages(release):
    """The packages to build modules for a kernel release like
    6.12.95+deb12-amd64."""
    version, _, flavour = release.rpartition("-")
    source = ".".join(version.split(".")[:2])
    return [f"linux-headers-{release}", f"linux-headers-{version}-common",
            f"linux-kbuild-{version}", f"linux-source-{source}"]


def check_versions(names):
    """All of one version; names are "package_version"."""
    versions = {name.split("_")[1] for name in names}
    if len(versions) != 1:
        raise Unavailable(f"packages of different kernels: {' '.join(names)}")


def unpack_sources(root, tree):
    tarball = next(iter((root / "usr/src").glob("linux-source-*.tar.xz")), None)
    if not tarball:
        raise Unavailable("the kernel's source package holds no tar file")
    tree.mkdir()
    run(["tar", "-xJf", str(tarball), "-C", str(tree), "--strip-components=1",
         *(f"{tarball.name.removesuffix('.tar.xz')}/{path}" for path in SOURCES)])


def add_span_iterator(tree):
    """iommufd uses a part of the interval tree that Debian's kernel is built
    without: give it a copy of that part."""
    text = (tree / "lib/interval_tree.c").read_text()
    found = re.search(r"^#ifdef CONFIG_INTERVAL_TREE_SPAN_ITER.*", text, re.M | re.S)
    if not found:
        raise Unavailable("the kernel's interval tree has another shape than expected")
    body = re.sub(r"^EXPORT_SYMBOL_GPL\(.*\n", "", found.group(0), flags=re.M)
    folder = tree / "drivers/iommu/iommufd"
    (folder / "span_iter.c").write_text("#include <linux/interval_tree.h>\n" + body)
    with open(folder / "Makefile", "a") as makefile:
        makefile.write("iommufd-y += span_iter.o\n")


def defines():
    suffix = {"y": "", "m": "_MODULE"}
    return " ".join(f"-D{name}{suffix[value]}=1" for name, value in OPTIONS.items()
                    if value in suffix)


def compile_modules(root, tree, release):
    source = root / "usr/src"
    version = release.rpartition("-")[0]
    (tree / "Kbuild").write_text("".join(f"obj-m += {folder}/\n" for folder in FOLDERS))
    argv = ["nice", "make", f"-j{os.cpu_count() or 1}",
            "-C", str(source / f"linux-headers-{version}-common"),
            f"O={source / f'linux-headers-{release}'}", f"M={tree}",
            *(f"{name}={value}" for name, value in OPTIONS.items()),
            f"KCFLAGS={defines()}"]
    compiler = re.search(r"gcc-\d+", (source / f"linux-headers-{release}/.kernelvariables")
                         .read_text())
    if compiler and not shutil.which(compiler.group(0)):
        argv.append("CC=gcc")
    done = subprocess.run([*argv, "modules"], text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        # The first error, with what came before it.
        lines = done.stdout.splitlines()
        at = next((i for i, line in enumerate(lines) if re.search(r"error|\*\*\*", line)), 0)
        raise Unavailable("the modules do not build: " + " / ".join(lines[max(at - 2, 0):at + 1]))


def build(archive, root: pathlib.Path, release):
    """Leave the modules in root/modules, and nothing else."""
    work = root / "work"
    check_versions(archive.unpack(packages(release), work))
    tree = work / "tree"
    unpack_sources(work, tree)
    add_span_iterator(tree)
    compile_modules(work, tree, release)
    out = root / "modules"
    out.mkdir()
    for module in tree.rglob("*.ko"):
        run(["strip", "--strip-debug", "-o", str(out / module.name), str(module)])
    shutil.rmtree(work)
