"""Unpack Debian packages into a folder, without root and without installing.

Called by assets.py. apt itself chooses, fetches and checks the packages, with
a state folder of its own: the machine's package database is neither read nor
changed. The mirror is the one the machine's own sources name. This file never
writes outside the folder it is given.

SPDX-License-Identifier: BSD-3-Clause
"""
import os
import pathlib
import re
import shutil
import subprocess

KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Unavailable(Exception):
    """Something cannot be had on this machine; the text says why."""


def run(argv, **kwargs):
    """Run a command; its last words are the reason when it fails."""
    try:
        return subprocess.run(argv, check=True, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs).stdout
    except FileNotFoundError as e:
        raise Unavailable(f"{argv[0]} is not installed") from e
    except subprocess.CalledProcessError as e:
        words = (e.stderr or e.stdout).strip().splitlines()
        raise Unavailable(f"{os.path.basename(argv[0])} failed: "
                          f"{words[-1] if words else e.returncode}") from e


def os_codename():
    text = pathlib.Path("/etc/os-release").read_text()
    match = re.search(r"^VERSION_CODENAME=(\S+)", text, re.M)
    if not match:
        raise Unavailable("/etc/os-release names no Debian release")
    return match.group(1)


def archive_uri():
    """The URI from which this machine fetches its own Debian release."""
    out = run(["apt-get", "indextargets", "--format",
               "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Identifier: Packages"])
    for line in out.splitlines():
        codename, component, uri = line.split()
        if (codename, component) == (os_codename(), "main"):
            return uri
    raise Unavailable("apt knows no source of this Debian release (apt-get update?)")


class Archive:
    """One Debian suite, seen through an apt of its own below `state`."""

    def __init__(self, state: pathlib.Path, suite: str):
        self.state = state / suite
        for sub in ("lists/partial", "archives/partial"):
            (self.state / sub).mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        signed = f"Signed-By: {KEYRING}\n" if KEYRING.exists() else ""
        (self.state / "suite.sources").write_text(
            f"Types: deb\nURIs: {archive_uri()}\nSuites: {suite}\nComponents: main\n{signed}")
        self._apt("apt-get", "update", "-o", "Acquire::Retries=3")

    def _options(self):
        options = {
            "Dir::Etc::SourceList": self.state / "suite.sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": self.state,
            "Dir::State::Lists": self.state / "lists",
            "Dir::State::Status": self.state / "status",
            "Dir::Cache": self.state,
            "Dir::Cache::Archives": self.state / "archives",
            # Hooks of the machine's own apt.conf act on the machine's state.
            "APT::Update::Post-Invoke": "", "DPkg::Post-Invoke": "",
            # Without this an empty status file means: install all of Debian's base.
            "pkgCacheGen::Essential": "none",
        }
        if os.getuid() == 0:
            # The download user may not be able to write below our folder.
            options["APT::Sandbox::User"] = "root"
        return [arg for k, v in options.items() for arg in ("-o", f"{k}={v}")]

    def _apt(self, tool, *args):
        return run([tool, *self._options(), *args])

    def dependency(self, package, pattern):
        """The first dependency of a (meta) package that matches."""
        for line in self._apt("apt-cache", "depends", package).splitlines():
            match = re.fullmatch(r"\s*Depends: (\S+)", line)
            if match and re.fullmatch(pattern, match.group(1)):
                return match.group(1)
        raise Unavailable(f"{package} has no dependency like {pattern}")

    def unpack(self, packages, root: pathlib.Path, closure=False):
        """Unpack packages, with all they depend on if closure, below root."""
        archives = self.state / "archives"
        shutil.rmtree(archives, ignore_errors=True)
        (archives / "partial").mkdir(parents=True)
        if closure:
            self._apt("apt-get", "install", "-y", "--download-only",
                      "--no-install-recommends", *packages)
        else:
            run(["apt-get", *self._options(), "download", *packages], cwd=archives)
        debs = sorted(archives.glob("*.deb"))
        if not debs:
            raise Unavailable(f"apt fetched nothing for {' '.join(packages)}")
        for deb in debs:
            run(["dpkg-deb", "-x", str(deb), str(root)])
        shutil.rmtree(archives)
        return [re.sub(r"_[^_]*$", "", deb.name).replace("%3a", ":") for deb in debs]


def libraries_first(root: pathlib.Path):
    """Command prefix that runs a program of `root` with root's own libraries."""
    loader = root / "lib64/ld-linux-x86-64.so.2"
    if not loader.exists():
        loader = root / "usr/lib64/ld-linux-x86-64.so.2"
    path = ":".join(str(root / d) for d in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"))
    return [str(loader), "--library-path", path]
