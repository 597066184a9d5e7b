#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ringbolt-blk running: images and sockets that cannot be used, its end."""

import os
import signal
import socket
import stat
import subprocess
import unittest

from harness import BLK, AppTest, get_features, unix_socket

NOBODY = 65534


class BadImages(AppTest):
    def fails(self, image, *parts, **kwargs):
        args = [f"--socket-path={self.socket}", f"--blk-file={image}"]
        self.assert_fails(args, image, *parts, **kwargs)

    def test_missing(self):
        self.fails(self.dir / "none.raw", "does not exist")

    def test_unreadable(self):
        image = self.image()
        image.chmod(0)
        if os.geteuid():
            self.fails(image, "permission denied")
            return
        # Root may read everything, so that somebody else has to try.
        self.dir.chmod(0o777)
        try:
            subprocess.run([BLK, "--version"], user=NOBODY, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as e:
            self.skipTest(f"cannot run {BLK} as another user: {e}")
        self.fails(image, "permission denied", user=NOBODY)

    def test_not_writable(self):
        image = self.image()
        image.chmod(0o444)
        args = [f"--socket-path={self.socket}", f"--blk-file={image}"]
        if os.geteuid():
            self.assert_fails(args, image, "permission denied")
        # Reading is all that a read-only device needs.
        self.start(*args, "--read-only")

    def test_empty(self):
        self.fails(self.image(size=0), "empty")

    def test_not_a_multiple_of_the_block_size(self):
        self.fails(self.image(size=1000), "1000", "512")

    def test_not_a_file_or_block_device(self):
        self.fails(self.dir, "")
        fifo = self.dir / "fifo"
        os.mkfifo(fifo)
        self.fails(fifo, "")
        self.fails("/dev/null", "")

    def test_in_use_by_another_server(self):
        image = self.image()
        self.start(f"--socket-path={self.dir}/other.sock", f"--blk-file={image}")
        self.fails(image, "lock")

    def test_in_use_by_another_device_of_the_same_process(self):
        image = self.image()
        one = f"socket={self.dir}/1,store=uring:{image}"
        two = f"socket={self.dir}/2,store=uring:{image}"
        self.assert_fails(["--device", one, "--device", two], image, "lock")

    def test_readers_share_an_image(self):
        image = self.image()
        one = f"socket={self.dir}/1,store=uring:{image},read-only=on"
        two = f"socket={self.dir}/2,store=uring:{image},read-only=on"
        self.start("--device", one, "--device", two)

    def test_an_unlocked_image_is_the_users_own_choice(self):
        image = self.image()
        one = f"socket={self.dir}/1,store=uring:{image},lock=off"
        two = f"socket={self.dir}/2,store=uring:{image},lock=off"
        self.start("--device", one, "--device", two)


class BadSockets(AppTest):
    def args(self):
        return ["--device", f"socket={self.socket},store=null:1M"]

    def test_a_live_server_is_refused_and_lives_on(self):
        self.start(*self.args())
        self.assert_fails(self.args(), self.socket, "live server")
        with unix_socket(self.socket) as sock:
            get_features(sock)

    def test_a_stale_socket_is_replaced(self):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(self.socket))
        self.start(*self.args())
        with unix_socket(self.socket) as sock:
            get_features(sock)

    def test_what_is_not_a_socket_is_never_deleted(self):
        self.socket.write_text("precious", encoding="utf-8")
        self.assert_fails(self.args(), self.socket, "not a socket")
        self.assertEqual(self.socket.read_text(encoding="utf-8"), "precious")
        self.socket.unlink()
        self.socket.mkdir()
        self.assert_fails(self.args(), self.socket, "not a socket")
        self.assertTrue(self.socket.is_dir())

    def test_a_path_too_long(self):
        self.assert_fails(
            ["--device", f"socket={self.dir}/{'x' * 200},store=null:1M"], "too long"
        )

    def test_a_missing_directory(self):
        self.assert_fails(
            ["--device", f"socket={self.dir}/none/s,store=null:1M"], "No such file"
        )

    def test_the_control_socket_likewise(self):
        self.control.write_text("precious", encoding="utf-8")
        args = [*self.args(), "--control", self.control]
        # And the device that was made before is gone again.
        self.assert_fails(args, self.control, "not a socket")
        self.control.unlink()
        self.start("--control", self.control)
        self.assert_fails(args, self.control, "live server")

    def test_a_second_device_that_fails_takes_the_first_with_it(self):
        self.assert_fails(
            [*self.args(), "--device", f"socket={self.dir}/2,store=uring:{self.dir}/none"],
            "none",
            "does not exist",
        )

    def test_a_descriptor_that_is_no_socket(self):
        with open("/dev/null", "rb") as null:
            args = [f"--fd={null.fileno()}", f"--blk-file={self.image()}"]
            self.assert_fails(args, null.fileno(), "socket", pass_fds=[null.fileno()])
        self.assert_fails(["--fd=900", f"--blk-file={self.image()}"], "fd 900", "socket")


class Serving(AppTest):
    def test_the_backend_program_conventions(self):
        self.start(f"--socket-path={self.socket}", f"--blk-file={self.image()}")
        with unix_socket(self.socket) as sock:
            self.assertTrue(get_features(sock) & 1 << 32, "VIRTIO_F_VERSION_1")

    def test_a_read_only_device_says_so(self):
        image = self.image()
        self.start(f"--socket-path={self.socket}", f"--blk-file={image}", "--read-only")
        with unix_socket(self.socket) as sock:
            self.assertTrue(get_features(sock) & 1 << 5, "VIRTIO_BLK_F_RO")

    def test_a_listening_descriptor(self):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
            listener.listen(1)
            fd = listener.fileno()
            blk = self.start(f"--fd={fd}", f"--blk-file={self.image()}", pass_fds=[fd])
        for _ in range(2):
            with unix_socket(self.socket) as sock:
                get_features(sock)
        self.assertEqual(blk.stop(), 0)
        # Who made the socket file keeps it.
        self.assertTrue(stat.S_ISSOCK(self.socket.stat().st_mode))

    def test_a_connected_descriptor(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            fd = theirs.fileno()
            self.start(f"--fd={fd}", f"--blk-file={self.image()}", pass_fds=[fd])
            theirs.close()
            get_features(ours)

    def test_connect_mode_finds_a_server_that_comes_later(self):
        self.start("--device", f"socket={self.socket},connect=on,store=null:1M")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.socket))
            listener.listen(1)
            listener.settimeout(60)
            sock, _ = listener.accept()
            with sock:
                get_features(sock)

    def test_a_loop_for_each_cpu(self):
        cpu = min(os.sched_getaffinity(0))
        self.start(
            f"--cpus={cpu}",
            "--poll=interrupt",
            f"--control={self.control}",
            "--device",
            f"socket={self.socket},store=null:1M",
        )
        loops = self.ctl_json("status")["loops"]
        self.assertEqual([(x["cpu"], x["mode"]) for x in loops], [(cpu, "interrupt")])

    def test_log_level_error_is_silent(self):
        blk = self.launch("--log-level=error", "--device", f"socket={self.socket},store=null:1M")
        while not self.socket.exists():
            self.assertIsNone(blk.process.poll())
        self.assertEqual(blk.stop(), 0)
        self.assertEqual(blk.log(), "")

    def test_closed_standard_descriptors_do_not_become_sockets(self):
        image = self.image()
        # The log would be written into what has become descriptor 2.
        script = 'exec "$0" --socket-path="$1" --blk-file="$2" --control="$3" <&- >&- 2>&-'
        process = subprocess.Popen(["sh", "-c", script, BLK, self.socket, image, self.control])
        try:
            while not self.control.exists():
                self.assertIsNone(process.poll())
            links = [os.readlink(f"/proc/{process.pid}/fd/{i}") for i in range(3)]
            self.assertEqual(links, ["/dev/null"] * 3)
        finally:
            process.terminate()
            self.assertEqual(process.wait(60), 0)


class Ending(AppTest):
    def running(self):
        return self.start(
            "--control",
            self.control,
            "--device",
            f"name=a,socket={self.socket},store=null:1M",
            "--device",
            f"name=b,socket={self.dir}/b.sock,store=uring:{self.image()}",
        )

    def assert_clean(self):
        self.assertEqual([p.name for p in self.dir.iterdir()], ["disk.raw"])

    def test_sigterm_and_sigint_end_cleanly(self):
        for sig in signal.SIGTERM, signal.SIGINT:
            with self.subTest(sig=sig):
                self.assertEqual(self.running().stop(sig), 0)
                self.assert_clean()

    def test_two_signals_end_as_cleanly_as_one(self):
        blk = self.running()
        blk.process.send_signal(signal.SIGTERM)
        blk.process.send_signal(signal.SIGINT)
        blk.process.send_signal(signal.SIGTERM)
        self.assertEqual(blk.stop(), 0)
        self.assert_clean()

    def test_with_a_front_end_and_a_control_client_connected(self):
        blk = self.running()
        with unix_socket(self.socket) as sock, unix_socket(self.control) as ctl:
            get_features(sock)
            ctl.sendall(b'{"jsonrpc"')
            self.assertEqual(blk.stop(), 0)
            self.assertEqual(sock.recv(1), b"")
            self.assertEqual(ctl.recv(1), b"")
        self.assert_clean()

    def test_a_socket_that_somebody_else_took_over_stays(self):
        blk = self.running()
        self.socket.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(self.socket))
            self.assertEqual(blk.stop(), 0)
            self.assertTrue(self.socket.exists())

    def test_sigpipe_and_sighup_of_a_closed_reader(self):
        blk = self.running()
        os.kill(blk.process.pid, signal.SIGPIPE)
        with unix_socket(self.socket) as sock:
            get_features(sock)
        self.assertEqual(blk.stop(), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
