# SPDX-License-Identifier: BSD-3-Clause
"""Running the real programs: start, wait until they serve, talk, stop.

The environment names the programs: RINGBOLT_BLK, RINGBOLT_NET, RINGBOLTCTL. No VM, no
root, no network; every file is in a directory that goes away with the test.
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

BLK = os.environ.get("RINGBOLT_BLK", "ringbolt-blk")
NET = os.environ.get("RINGBOLT_NET", "ringbolt-net")
CTL = os.environ.get("RINGBOLTCTL", "ringboltctl")

# How long something may take that has no reason to fail: only a hang is longer.
PATIENCE = 60

VHOST_USER_GET_FEATURES = 1
VHOST_USER_SET_FEATURES = 2
VHOST_USER_VERSION = 1


# What each program says when it serves.
READY = {BLK: "device(s) on", NET: "port(s) and"}


def description(program):
    """What is installed for management programs to find the program by
    (docs/interop/vhost-user.json of QEMU), as built beside it."""
    path = pathlib.Path(program)
    return json.loads((path.parent / f"50-{path.name}.json").read_text())


class Program:
    """A running back-end program."""

    def __init__(self, program, *args, **kwargs):
        self.ready_text = READY[program]
        self.process = subprocess.Popen(
            [program, *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kwargs,
        )
        self.stopped = False
        self.lines = []
        self.ready = threading.Event()
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()

    def _read_log(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if self.ready_text in line:
                self.ready.set()
        self.ready.set()

    def log(self):
        return "\n".join(self.lines)

    def wait_ready(self):
        assert self.ready.wait(PATIENCE), f"not ready: {self.log()}"
        assert self.process.poll() is None, f"ended: {self.log()}"
        return self

    def wait_for_line(self, text):
        """Until a log line contains text; the reader thread ends with the process."""
        for _ in range(PATIENCE * 100):
            if text in self.log():
                return
            self.reader.join(0.01)
        raise AssertionError(f"no '{text}' in: {self.log()}")

    def stop(self, sig=signal.SIGTERM):
        """The exit status."""
        if self.stopped:
            return self.process.returncode
        self.stopped = True
        self.process.send_signal(sig)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.reader.join(PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()
        return status


class AppTest(unittest.TestCase):
    """A test with a directory of its own; programs it starts are ended."""

    program = BLK

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="rb-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.socket = self.dir / "disk.sock"
        self.control = self.dir / "ctl.sock"

    def image(self, name="disk.raw", size=1 << 20):
        path = self.dir / name
        with open(path, "wb") as f:
            f.truncate(size)
        return path

    def launch(self, *args, **kwargs):
        running = Program(self.program, *args, **kwargs)
        self.addCleanup(self.finish, running)
        return running

    def start(self, *args, **kwargs):
        return self.launch(*args, **kwargs).wait_ready()

    def finish(self, running):
        """Every test ends with a clean end; a sanitizer speaks up here."""
        status = running.stop()
        self.assertEqual(status, 0, running.log())

    def run_program(self, *args, **kwargs):
        """Run to the end: what is wrong with args must end it."""
        return subprocess.run(
            [self.program, *map(str, args)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **kwargs,
        )

    def ctl(self, *args, env=None, control=True):
        where = ["--control", str(self.control)] if control else []
        clean = {k: v for k, v in os.environ.items() if k != "RINGBOLT_CONTROL"}
        return subprocess.run(
            [CTL, *where, *map(str, args)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**clean, **(env or {})},
        )

    def ctl_json(self, *args):
        done = self.ctl("--json", *args)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def assert_refused(self, args, message):
        """A usage error: status 2, this one line, nothing else."""
        done = self.run_program(*args)
        name = pathlib.Path(self.program).name
        self.assertEqual(done.stderr, f"{name}: {message}\n")
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.returncode, 2)

    def assert_fails(self, args, *parts, **kwargs):
        """A failure: status 1, one error line that contains all parts."""
        before = sorted(p.name for p in self.dir.iterdir())
        done = self.run_program(*args, **kwargs)
        errors = [line for line in done.stderr.splitlines() if not line.startswith("info: ")]
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(len(errors), 1, done.stderr)
        for part in parts:
            self.assertIn(str(part), errors[0])
        after = sorted(p.name for p in self.dir.iterdir())
        self.assertEqual(before, after, "something was created")


def unix_socket(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # With a timeout, a full backlog would be an error instead of a wait.
    sock.connect(str(path))
    sock.settimeout(PATIENCE)
    return sock


def get_features(sock):
    """Ask a vhost-user back-end for its feature bits: someone serves there."""
    sock.sendall(struct.pack("=III", VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0))
    reply = b""
    while len(reply) < 20:
        part = sock.recv(20 - len(reply))
        assert part, "the back-end closed the connection"
        reply += part
    request, _flags, size, features = struct.unpack("=IIIQ", reply)
    assert (request, size) == (VHOST_USER_GET_FEATURES, 8)
    return features


def set_features(sock, features):
    """Say what was negotiated; there is no answer."""
    message = struct.pack("=IIIQ", VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 8, features)
    sock.sendall(message)


class Control:
    """A bare client of the control socket."""

    def __init__(self, path):
        self.sock = unix_socket(path)
        self.file = self.sock.makefile("r", encoding="utf-8")

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def answer(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.send(json.dumps(request) + "\n")
        return self.answer()

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
