"""Fixtures of the guest tests, shared with tests/interop.

SPDX-License-Identifier: BSD-3-Clause
"""
import pathlib
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import guest  # noqa: E402
import net  # noqa: E402
import lab as lab_machine  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: only run by `make check-slow`")


@pytest.fixture(scope="session")
def logs(request):
    """Folder of everything a session writes. Kept when a test failed. Its name
    is short, because the path of a UNIX socket may have 107 bytes."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ringbolt-vm."))
    yield folder
    if request.session.testsfailed:
        print(f"\nlogs of the guests: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


class Folders:
    """A fresh folder per guest run."""

    def __init__(self, base):
        self.base, self.count = base, 0

    def __call__(self):
        self.count += 1
        folder = self.base / str(self.count)
        folder.mkdir()
        return folder


@pytest.fixture(scope="session")
def new_folder(logs):
    return Folders(logs)


@pytest.fixture
def workdir(new_folder):
    return new_folder()


@pytest.fixture(scope="session")
def initrd(logs):
    try:
        return guest.build_initrd(logs)
    except guest.Unavailable as e:
        pytest.skip(str(e))


@pytest.fixture(scope="session")
def lab(new_folder):
    """The machine with devices to hand over, one for all tests of a session."""
    need_qemu("10")
    try:
        machine = lab_machine.start(new_folder())
    except guest.Unavailable as e:
        pytest.skip(str(e))
    with machine:
        yield machine
        if not machine.broken:
            machine.end()


@pytest.fixture(scope="session")
def net_initrd(logs):
    """Of guests with networks."""
    try:
        return net.build_initrd(logs)
    except guest.Unavailable as e:
        pytest.skip(str(e))


@pytest.fixture
def qemu10():
    """Skip where the QEMU of the backports is not to be had."""
    need_qemu("10")


def need_qemu(version):
    try:
        guest.qemu_command(version)
    except guest.Unavailable as e:
        pytest.skip(str(e))
