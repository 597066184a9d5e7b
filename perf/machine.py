# SPDX-License-Identifier: BSD-3-Clause
"""What the machine does while a sample is taken: who uses the CPUs, and how far
apart two of them are. Reads /proc only."""

import json
import os
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


def _stat_fields(path):
    """Fields of a /proc stat file from the state on; None if it is gone."""
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def process_cpu(pid):
    """CPU seconds of a process, all threads, to the nanosecond."""
    total = 0
    try:
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return total / 1e9


def resident(pid):
    """Resident memory in bytes: (own, shared): guest memory counts as shared."""
    own = shared = 0
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            key, _, value = line.partition(":")
            if key in ("RssAnon", "RssFile"):
                own += int(value.split()[0]) * 1024
            elif key == "RssShmem":
                shared += int(value.split()[0]) * 1024
    return own, shared


def _mappings(pid):
    """{(device, inode): resident bytes} of a process; anonymous memory is ("", 0)."""
    found, key = {}, None
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            words = line.split()
            if not words[0].endswith(":"):
                key = (words[3], int(words[4])) if int(words[4]) else ("", 0)
            elif words[0] == "Rss:":
                found[key] = found.get(key, 0) + int(words[1]) * 1024
    return found


def resident_apart(pid, others):
    """Resident bytes of a process: (its own, what it shares with these others).
    Files such as libraries that both have mapped count as its own."""
    shared = {k for other in others for k in _mappings(other) if _is_memory_file(other, k)}
    own = _mappings(pid)
    common = sum(size for k, size in own.items() if k in shared)
    return sum(own.values()) - common, common


def _is_memory_file(pid, key):
    """The file behind a mapping is in memory only: a memfd, hugetlbfs, tmpfs."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
        for line in f:
            words = line.split(maxsplit=5)
            if len(words) == 6 and (words[3], int(words[4])) == key:
                return words[5].startswith(("/memfd:", "/dev/shm", "/dev/hugepages")) or \
                    "(deleted)" in words[5]
    return False


class Others:
    """CPU use of processes that are not part of the measurement, and time the
    hypervisor took away, between start() and share(). Ours are this process and
    its children, which have ended by then or are named as pids; kernel threads
    work for whoever does I/O and belong to nobody. Short-lived processes are
    counted too: others are what is left of all CPU time."""

    def __init__(self, pids=()):
        self.before = (0.0, 0.0)
        self.pids = list(pids)

    @staticmethod
    def _kernel_threads():
        total = 0
        for pid in os.listdir("/proc"):
            f = _stat_fields(f"/proc/{pid}/stat") if pid.isdigit() else None
            if f and f[1] == "2":
                total += int(f[11]) + int(f[12])
        return total / TICKS

    def _now(self):
        """(time, CPU seconds of others since boot up to a constant)."""
        with open("/proc/stat", encoding="ascii") as f:
            user, nice, system, _, _, _, _, steal = (int(v) for v in f.readline().split()[1:9])
        t = os.times()
        ours = t.user + t.system + t.children_user + t.children_system
        ours += sum(process_cpu(pid) or 0.0 for pid in self.pids)
        return (time.monotonic(),
                (user + nice + system + steal) / TICKS - ours - self._kernel_threads())

    def start(self):
        self.before = self._now()

    def share(self):
        """Share of one core that others used since start()."""
        now = self._now()
        return max(0.0, (now[1] - self.before[1]) / max(now[0] - self.before[0], 1e-3))


def wait_quiet(share, seconds):
    """Until others use less than share of a core, but not longer than seconds."""
    end = time.monotonic() + seconds
    others = Others()
    while time.monotonic() < end:
        others.start()
        time.sleep(0.2)
        if others.share() < share:
            return


def pingpong(binary, cpus, ms=15):
    """(tag, round trip in ns) of two CPUs."""
    out = subprocess.run([binary, "--cpus", f"{cpus[0]},{cpus[1]}", "--ms", str(ms)],
                         check=True, capture_output=True, text=True).stdout
    r = json.loads(out)
    return r["tag"], r["round_trip_ns"]


def describe():
    """One line about this machine."""
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} CPUs ({model}), Linux {os.uname().release}"
