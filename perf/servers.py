# SPDX-License-Identifier: BSD-3-Clause
"""Starting and stopping the servers that are compared. Each runs on one CPU, with
its devices on sockets in a scratch folder."""

import os
import shutil
import signal
import subprocess
import time


class ServerFailed(Exception):
    pass


class Server:
    """A running server; use with "with"."""

    name = "?"

    def __init__(self, scratch, cpu, nr_devices=1, queues=1):
        self.scratch = scratch
        self.cpu = cpu
        self.queues = queues
        self.sockets = [os.path.join(scratch, f"{self.name}-{i}.sock") for i in range(nr_devices)]
        self.log = os.path.join(scratch, f"{self.name}.log")
        self.process = None
        self.started_ms = None  # from exec to the first socket that answers

    def command(self):
        raise NotImplementedError

    def __enter__(self):
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)
        cpu = self.cpu
        with open(self.log, "wb") as log:
            begin = time.monotonic()
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=lambda: os.sched_setaffinity(0, {cpu}))
        self._wait(begin)
        return self

    def _wait(self, begin):
        """Until every device listens, asked without connecting: a connection
        that goes away at once would be the first thing the server sees."""
        for path in self.sockets:
            while not self._listens(path):
                if self.process.poll() is not None or time.monotonic() > begin + 15:
                    self._kill()
                    raise ServerFailed(f"{self.name} did not start: {self.tail()}")
                time.sleep(0.0005)
        self.started_ms = (time.monotonic() - begin) * 1e3

    def _listens(self, path):
        """bind() made the file and listen() was called: its net/unix, state 01
        with the flag of a listener. The process may have a network namespace of
        its own."""
        if not os.path.exists(path):
            return False
        with open(f"/proc/{self.pid}/net/unix", encoding="utf-8", errors="replace") as f:
            return any(line.rstrip().endswith(" " + path) and line.split()[3] == "00010000"
                       for line in f)

    def tail(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                return " | ".join(f.read().splitlines()[-3:]) or "(no message)"
        except OSError as e:
            return str(e)

    @property
    def pid(self):
        return self.process.pid

    def _kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self._kill()
        for path in self.sockets:
            if os.path.exists(path):
                os.unlink(path)


class Ringbolt(Server):
    """ringbolt-blk, one poll thread."""

    name = "ringbolt-blk"
    binary = None  # these three are set by the caller
    poll = "adaptive"
    keys = "fixed-buffers=on"

    def __init__(self, store, iommu=False, **kw):
        super().__init__(**kw)
        self.store, self.iommu = store, iommu

    def command(self):
        kind, what, direct = self.store
        if kind == "null":
            keys = f"store=null:{what}"
        else:
            keys = f"store=uring:{what},lock=off,{self.keys}"
            keys += ",cache=none" if direct else ",cache=auto"
        cmd = [self.binary, "--cpus", str(self.cpu), "--poll", self.poll]
        for i, path in enumerate(self.sockets):
            cmd += ["--device", f"name=d{i},socket={path},queues={self.queues},{keys}" +
                    (",iommu=on" if self.iommu else "")]
        return cmd


class Qsd(Server):
    """qemu-storage-daemon, one iothread for all exports, io_uring."""

    name = "qemu-storage-daemon"
    binary = shutil.which("qemu-storage-daemon")

    def __init__(self, store, **kw):
        super().__init__(**kw)
        self.store = store

    def command(self):
        kind, what, direct = self.store
        cmd = [self.binary, "--object", "iothread,id=t0"]
        for i, path in enumerate(self.sockets):
            if kind == "null":
                node = f"driver=null-co,node-name=n{i},size={what},read-zeroes=off"
            else:
                node = (f"driver=file,node-name=n{i},filename={what},aio=io_uring,locking=off,"
                        f"cache.direct={'on' if direct else 'off'}")
            cmd += ["--blockdev", node, "--export",
                    f"type=vhost-user-blk,id=e{i},node-name=n{i},addr.type=unix,addr.path={path},"
                    f"writable=on,num-queues={self.queues},iothread=t0"]
        return cmd

