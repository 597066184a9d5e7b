# SPDX-License-Identifier: BSD-3-Clause
"""Starting and stopping the network servers that are compared. Each runs on one
CPU with its ports on sockets in a scratch folder, and has one thread that polls.

A server has ports numbered from 0. They loop back (a frame returns to the port it
came from) or are connected: by a learning switch (ringbolt-net, Open vSwitch) or
two by two, without looking at the frames (net_vhost under testpmd)."""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

from servers import Server, ServerFailed

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(ROOT, "tests", "interop"), os.path.join(ROOT, "tests", "vm", "setup")]

import assets  # noqa: E402
import testpmd  # noqa: E402


class NetServer(Server):
    """A running server of nr_devices ports; use with "with".

    queues: pairs of each port. loopback: frames go back. offloads: large segments
    and partial checksums for kernels, if the server has to be asked. huge: folder
    of hugetlbfs for the server's own memory. iommu: for guests behind one."""

    front_end_listens = False

    def __init__(self, scratch, cpu, nr_devices=1, queues=1, loopback=False, offloads=False,
                 huge=None, poll="busy", iommu=False):
        super().__init__(scratch, cpu, nr_devices, queues)
        self.iommu = iommu
        self.loopback, self.offloads, self.huge, self.poll = loopback, offloads, huge, poll

    @classmethod
    def missing(cls):
        """Why it cannot run here; None if it can."""
        return None

    @classmethod
    def version(cls):
        raise NotImplementedError

    def pids(self):
        """Of all its processes."""
        return [self.pid]

    def busy_cycles(self, seconds, sample):
        """Cycles a frame of the turns that moved frames, measured for this long
        while frames flow as in this sample; None if the server does not say."""
        return None


class RingboltNet(NetServer):
    """ringbolt-net, one poll thread."""

    name = "ringbolt-net"
    binary = None  # set by the caller
    ctl = None

    @classmethod
    def missing(cls):
        ok = cls.binary and os.access(cls.binary, os.X_OK)
        return None if ok else f"{cls.name} is not built"

    @classmethod
    def version(cls):
        return subprocess.run([cls.binary, "--version"], capture_output=True,
                              text=True).stdout.strip()

    @property
    def control(self):
        return os.path.join(self.scratch, f"{self.name}.ctl")

    def command(self):
        cmd = [self.binary, "--cpus", str(self.cpu), "--poll", self.poll,
               "--control", self.control]
        for i, path in enumerate(self.sockets):
            keys = f"name=p{i},socket={path},queues={self.queues}"
            cmd += ["--port", keys + (",loopback=on" if self.loopback else "") +
                    (",iommu=on" if self.iommu else "")]
        return cmd

    def _busy(self):
        """The loop's share of time with work since this was asked last."""
        out = subprocess.run([self.ctl, "--control", self.control, "--json", "status"],
                             capture_output=True, text=True, check=True).stdout
        return json.loads(out)["loops"][0]["busy"]

    def busy_cycles(self, seconds, sample):
        if "hz" not in sample:
            return None
        self._busy()
        time.sleep(seconds)
        return self._busy() * sample["hz"] / sample["fps"]


class NetVhost(NetServer):
    """DPDK's librte_vhost under testpmd, frames forwarded without a look."""

    name = "net_vhost"

    @classmethod
    def missing(cls):
        return None if testpmd.PROGRAM else "dpdk-testpmd is not installed"

    @classmethod
    def version(cls):
        out = subprocess.run([testpmd.PROGRAM, "-v", "--help"], capture_output=True, text=True)
        found = re.search(r"DPDK \d[^']*", out.stdout + out.stderr)
        return f"testpmd net_vhost, {found.group(0) if found else 'DPDK'}"

    def __enter__(self):
        vdevs = [f"net_vhost{i},iface={path},queues={self.queues}" +
                 (",tso=1" if self.offloads else "") +
                 (",iommu-support=1" if self.iommu else "") for i, path in enumerate(self.sockets)]
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)
        mbufs = 8192 + 4096 * self.queues * len(self.sockets)
        self.testpmd = testpmd.Testpmd(
            f"rbperf-be{os.getpid()}", vdevs, self.log, cpu=self.cpu, huge=self.huge,
            memory=testpmd.memory_for(mbufs),
            options=["--forward-mode=io", f"--rxq={self.queues}", f"--txq={self.queues}",
                     f"--total-num-mbufs={mbufs}", "--rxd=1024", "--txd=1024",
                     "--port-topology=" + ("loop" if self.loopback else "paired"),
                     "--no-lsc-interrupt"])
        begin = time.monotonic()
        try:
            self.testpmd.__enter__()
            self.process = self.testpmd.process
            # Reading the clock twice a burst is not part of the work.
            self.testpmd("set record-core-cycles off", "start")
        except testpmd.TestpmdFailed as e:
            raise ServerFailed(str(e)) from None
        self.started_ms = (time.monotonic() - begin) * 1e3
        return self

    def __exit__(self, *exc):
        self.testpmd.__exit__(*exc)

    def busy_cycles(self, seconds, sample):
        self.testpmd("set record-core-cycles on")
        # The turn that is going on would be counted from the beginning of time.
        time.sleep(0.05)
        before = self.testpmd.cycles()
        time.sleep(seconds)
        after = self.testpmd.cycles()
        self.testpmd("set record-core-cycles off")
        if not before or not after or after[1] == before[1]:
            return None
        return (after[0] - before[0]) / (after[1] - before[1])


def ovs_folder():
    """(folder with Open vSwitch's files, reason why there is none): fetched by
    assets.py, or installed."""
    try:
        return str(assets.locate("ovs")[0]), None
    except assets.Unavailable as e:
        if os.path.exists("/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"):
            return "/", None
        return None, str(e)


class Ovs(NetServer):
    """Open vSwitch with DPDK, one bridge with the action NORMAL. Its database,
    its log and its sockets are in the scratch folder, and it has a network
    namespace of its own, because it makes a device for each bridge."""

    name = "OVS-DPDK"

    @classmethod
    def missing(cls):
        return ovs_folder()[1]

    @classmethod
    def version(cls):
        out = subprocess.run([cls._path("usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"),
                              "--version"], env=cls._env(), capture_output=True, text=True).stdout
        return ", ".join(out.splitlines()[:2])

    @staticmethod
    def _path(name):
        return os.path.join(ovs_folder()[0] or "/", name)

    def __init__(self, **kw):
        super().__init__(**kw)
        self.folder = os.path.join(self.scratch, "ovs")
        self.sockets = [os.path.join(self.folder, f"p{i}") for i in range(len(self.sockets))]
        # Where it listens, as the others do. Ports of this kind know of no large
        # segments; the other kind is the same otherwise.
        self.front_end_listens = self.offloads
        self.database = None

    def _tool(self, name, *args, timeout=60):
        argv = [self._path(f"usr/bin/{name}"), *args]
        done = subprocess.run(argv, env=self._env(self.folder), capture_output=True, text=True,
                              timeout=timeout)
        if done.returncode:
            raise ServerFailed(f"{name}: {done.stderr.strip()}")
        return done.stdout

    @classmethod
    def _env(cls, folder="/nonexistent"):
        return {**os.environ, "LD_LIBRARY_PATH": cls._path("usr/lib/x86_64-linux-gnu"),
                **{f"OVS_{d}DIR": folder for d in ("RUN", "DB", "LOG", "SYSCONF")}}

    def _vsctl(self, *args):
        return self._tool("ovs-vsctl", f"--db=unix:{self.folder}/db", "--timeout=30", *args)

    def _start(self, argv, affinity=None):
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                argv, env=self._env(self.folder), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=(lambda: os.sched_setaffinity(0, affinity)) if affinity else None)

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder)
        begin = time.monotonic()
        try:
            self._start_all()
            if not self.front_end_listens:
                self._wait(begin)
        except (ServerFailed, subprocess.TimeoutExpired) as e:
            self._stop_all()
            raise ServerFailed(f"{self.name} did not start: {e}; {self.tail()}") from None
        return self

    def _start_all(self):
        f = self.folder
        self._tool("ovsdb-tool", "create", f"{f}/conf.db",
                   self._path("usr/share/openvswitch/vswitch.ovsschema"))
        self.database = self._start([self._path("usr/sbin/ovsdb-server"), f"{f}/conf.db",
                                     f"--remote=punix:{f}/db", f"--unixctl={f}/db.ctl"])
        end = time.monotonic() + 15
        while not os.path.exists(f"{f}/db"):
            if time.monotonic() > end:
                raise ServerFailed("ovsdb-server makes no socket")
            time.sleep(0.01)
        self._vsctl("--no-wait", "init")
        # 262144 mbufs, for any number of ports of one MTU, and rings.
        memory = 1024 + 4 * len(self.sockets)
        extra = f"--no-pci -m {memory} --file-prefix rbperf-ovs{os.getpid()} "
        # --legacy-mem keeps it from asking for --in-memory, which wants hugepages.
        extra += f"--huge-dir {self.huge}" if self.huge else "--no-huge --legacy-mem"
        self._vsctl("--no-wait", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                    f'other_config:dpdk-extra="{extra}"',
                    f"other_config:pmd-cpu-mask={1 << self.cpu:#x}",
                    f"other_config:userspace-tso-enable={'true' if self.offloads else 'false'}")
        unshare = ["unshare", "-n"] if os.getuid() == 0 else ["unshare", "-rn"]
        self.process = self._start(
            [*unshare, self._path("usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"),
             f"unix:{f}/db", f"--unixctl={f}/ctl", f"--log-file={f}/ovs.log"])
        self._vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
        for path in self.sockets:
            name = os.path.basename(path)
            kind = ["type=dpdkvhostuser"]
            if self.front_end_listens:
                kind = ["type=dpdkvhostuserclient", f"options:vhost-server-path={path}"]
            self._vsctl("add-port", "br0", name, "--", "set", "Interface", name, *kind)

    def _stop_all(self):
        for p in (self.process, self.database):
            if p and p.poll() is None:
                p.send_signal(signal.SIGTERM)
                try:
                    p.wait(10)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        for path in glob.glob(f"/var/run/dpdk/rbperf-ovs{os.getpid()}*"):
            shutil.rmtree(path, ignore_errors=True)

    def __exit__(self, *exc):
        self._stop_all()

    def tail(self):
        try:
            with open(os.path.join(self.folder, "ovs.log"), encoding="utf-8") as f:
                lines = [line for line in f if "|ERR|" in line or "|EMER|" in line]
            return " | ".join(line.strip() for line in lines[-3:])
        except OSError:
            return super().tail()

    def busy_cycles(self, seconds, sample):
        ctl = ("ovs-appctl", "-t", f"{self.folder}/ctl")
        self._tool(*ctl, "dpif-netdev/pmd-stats-clear")
        time.sleep(seconds)
        text = self._tool(*ctl, "dpif-netdev/pmd-stats-show")
        # "avg processing cycles per packet" leaves the idle turns out.
        found = re.search(r"avg processing cycles per packet: ([\d.]+)", text)
        return float(found.group(1)) if found else None
