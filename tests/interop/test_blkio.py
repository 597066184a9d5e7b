"""libblkio's virtio-blk-vhost-user driver as the front-end.

Debian 12 does not have libblkio; it comes from the next release together with
the C library it was built for, and runs with that without being installed.

SPDX-License-Identifier: BSD-3-Clause
"""
import pathlib
import subprocess

import assets
import debs
import guest
import pytest

HERE = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def client(logs):
    """Command that runs blkio_client."""
    try:
        root, _ = assets.locate("blkio")
    except guest.Unavailable as e:
        pytest.skip(str(e))
    program = logs / "blkio_client"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, HERE / "blkio_client.c",
                    f"-I{root}/usr/include", f"-L{root}/usr/lib/x86_64-linux-gnu", "-lblkio",
                    # It asks for symbols of a newer C library than this machine's.
                    "-Wl,--allow-shlib-undefined"], check=True)
    return [*debs.libraries_first(root), str(program)]


@pytest.mark.parametrize("queues,polled", [(1, 0), (4, 0), (2, 2)])
def test_libblkio_reads_back_what_it_wrote(workdir, client, queues, polled):
    disk = guest.Disk("blkio", workdir, size=64 << 20, queues=queues + polled)
    with guest.backend(workdir, [disk]):
        run = subprocess.run([*client, str(disk.socket), str(queues), str(polled)], text=True,
                             timeout=90, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout
    assert run.stdout.split() == [f"capacity={64 << 20}", "queues", "polled", "memory", "zero",
                                  "bounds"]
