#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The direction of includes between the folders of this tree.

Which folder may use which is written in README.md; here it is a table. Run with
the root of the source tree as the only argument. Needs nothing but Python.
"""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# folder: what it may include of other folders. A folder stands for its public
# headers, see PUBLIC; a path for that header alone.
MAY_INCLUDE = {
    "core": [],
    "iommu": ["core"],
    "vhost": ["core", "iommu/iotlb.h"],
    "virtio-blk": ["vhost", "core"],
    "virtio-net": ["vhost", "core"],
    "sriov": ["iommu", "core"],
    "apps": ["vhost", "virtio-blk", "virtio-net", "iommu", "sriov", "core"],
    "perf": ["vhost", "core", "tests/frontend"],
}

# folder: the only headers that other folders may include. core is all public.
PUBLIC = {
    "vhost": {"vhost/vhost.h", "vhost/virtq_spec.h"},
    "virtio-blk": {"virtio-blk/vblk.h", "virtio-blk/vblk_spec.h"},
    "iommu": {"iommu/iommu.h", "iommu/iotlb.h"},
    "virtio-net": {
        "virtio-net/acl.h",
        "virtio-net/capture.h",
        "virtio-net/eal.h",
        "virtio-net/uplink.h",
        "virtio-net/vnet.h",
        "virtio-net/vnet_spec.h",
        "virtio-net/vswitch.h",
    },
    "sriov": {"sriov/sriov.h", "sriov/conf.h", "sriov/attach.h", "sriov/plan.h", "sriov/watch.h"},
}

# Library headers: which folders may include them. Tests and benchmarks may use
# everything.
LIBRARIES = {
    r"liburing\.h|linux/io_uring\.h": {"virtio-blk"},
    r"rte_.*": {"virtio-net"},
    r"numa\.h|numaif\.h|seccomp\.h": {"core"},
    r"netlink/.*|pci/.*|yaml\.h": {"sriov"},
}

# vhost/ serves every device type and must not know one, not even in a comment.
VHOST_NEVER_NAMES = re.compile(
    r"virtio[-_](blk|net|scsi|fs|gpu|console)|\bv(blk|net)_|\bdpdk\b|\brte_|uring|"
    r'"(block|net)"',
    re.IGNORECASE,
)

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def sources(folder):
    return sorted(p for p in (ROOT / folder).rglob("*.[ch]"))


def includes(path):
    """The includes of a file in order: (quoted, angled), one of them None."""
    text = path.read_text(encoding="utf-8")
    return [(m.group(1), m.group(2)) for m in INCLUDE.finditer(text)]


def is_allowed(folder, header):
    """May a file of folder include header, written from the root?"""
    owner = header.split("/")[0]
    if header.startswith("tests/frontend/"):
        owner = "tests/frontend"
    if owner == folder:
        return True
    for allowed in MAY_INCLUDE[folder]:
        if allowed == header:
            return True
        if allowed == owner:
            return owner not in PUBLIC or header in PUBLIC[owner]
    return False


def is_allowed_in_tests(area, header):
    """tests/X sees all of X; other folders' private headers stay private."""
    owner = header.split("/")[0]
    return (
        owner in (area, "tests", "core", "perf")
        or owner not in PUBLIC
        or header in PUBLIC[owner]
        # A fuzz target digs where no caller can.
        or area == "fuzz"
    )


class Layering(unittest.TestCase):
    def complain(self, problems):
        self.assertFalse(problems, "\n" + "\n".join(problems))

    def test_includes_point_down_the_table(self):
        self.complain(
            [
                f"{path.relative_to(ROOT)}: {folder} must not include {quoted}"
                for folder in MAY_INCLUDE
                for path in sources(folder)
                for quoted, _ in includes(path)
                if quoted and not is_allowed(folder, quoted)
            ]
        )

    def test_tests_use_private_headers_of_their_own_folder_only(self):
        problems = []
        for path in sources("tests"):
            area = path.relative_to(ROOT).parts[1]
            problems += [
                f"{path.relative_to(ROOT)}: must not include {quoted}"
                for quoted, _ in includes(path)
                if quoted and not is_allowed_in_tests(area, quoted)
            ]
        self.complain(problems)

    def test_includes_are_written_from_the_root(self):
        self.complain(
            [
                f'{path.relative_to(ROOT)}: no such file from the root: "{quoted}"'
                for folder in [*MAY_INCLUDE, "tests"]
                for path in sources(folder)
                for quoted, _ in includes(path)
                if quoted and not (ROOT / quoted).is_file()
            ]
        )

    def test_own_header_comes_first(self):
        problems = []
        for folder in MAY_INCLUDE:
            for path in sources(folder):
                own = path.with_suffix(".h")
                if path.suffix != ".c" or not own.exists():
                    continue
                name = str(own.relative_to(ROOT))
                if includes(path)[0][0] != name:
                    problems.append(f"{path.relative_to(ROOT)}: first include must be {name}")
        self.complain(problems)

    def test_libraries_stay_in_their_folders(self):
        self.complain(
            [
                f"{path.relative_to(ROOT)}: {folder} must not include <{angled}>"
                for folder in MAY_INCLUDE
                if folder != "perf"
                for path in sources(folder)
                for _, angled in includes(path)
                for pattern, owners in LIBRARIES.items()
                if angled and re.fullmatch(pattern, angled) and folder not in owners
            ]
        )

    def test_vhost_names_no_device_type_and_no_backend_library(self):
        problems = []
        for path in sources("vhost"):
            lines = path.read_text(encoding="utf-8").splitlines()
            for number, line in enumerate(lines, 1):
                found = VHOST_NEVER_NAMES.search(line)
                if found:
                    where = f"{path.relative_to(ROOT)}:{number}"
                    problems.append(f"{where}: names '{found.group(0)}'")
        self.complain(problems)

    def test_top_level_has_no_other_source_folder(self):
        known = {*MAY_INCLUDE, "tests"}
        found = {
            p.name
            for p in ROOT.iterdir()
            if p.is_dir() and not p.name.startswith((".", "build")) and any(p.glob("*.[ch]"))
        }
        self.assertLessEqual(found, known)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        ROOT = pathlib.Path(sys.argv.pop(1)).resolve()
    unittest.main(verbosity=2)
