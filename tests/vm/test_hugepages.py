"""Huge pages of the kernel: DPDK of ringbolt-net takes them if there are some, and
small ones if not, whatever it was told nothing about.

SPDX-License-Identifier: BSD-3-Clause
"""
import json

PAGES = 64  # of 2 MiB: ringbolt-net wants 64 MiB free
FREE = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"
NET = "/tmp/build/apps/ringbolt-net"
CTL = "/tmp/build/apps/ringboltctl --control=/run/huge.ctl"


def uplink_of_a_program(lab, *options):
    """The uplink's status in a program that was started for it, and how many huge
    pages were free meanwhile."""
    words = " ".join(options)
    lab.run(f"rm -f /run/huge.ctl; {NET} {words} --uplink 'name=up0,dev=net_null0;no-rx=1' "
            "--control=/run/huge.ctl >/run/huge.log 2>&1 & echo $! >/run/huge.pid")
    lab.wait_path("/run/huge.ctl")
    status = json.loads(lab.run(f"{CTL} status up0 --json").out)["ports"][0]
    free = int(lab.read(FREE))
    lab.run("p=$(cat /run/huge.pid); kill $p; while [ -e /proc/$p ]; do sleep 0.1; done")
    return status, free


def test_hugepages_are_used_when_there_are_some(lab):
    status, _ = uplink_of_a_program(lab)
    assert status["memory"] == "small"
    lab.run("mountpoint -q /dev/hugepages || { mkdir -p /dev/hugepages && "
            "mount -t hugetlbfs -o pagesize=2M nodev /dev/hugepages; }")
    lab.run(f"echo {PAGES} >/proc/sys/vm/nr_hugepages")
    try:
        before = int(lab.read(FREE))
        assert before == PAGES
        status, free = uplink_of_a_program(lab)
        assert status["memory"] == "huge"
        assert free < before
        # All of them come back, and a program that is told not to leaves them.
        assert int(lab.read(FREE)) == before
        status, free = uplink_of_a_program(lab, "--pages=small")
        assert (status["memory"], free) == ("small", before)
    finally:
        lab.run("echo 0 >/proc/sys/vm/nr_hugepages")
