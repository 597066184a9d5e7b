#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ringbolt-blk's command line: what is said about every wrong option or value."""

import json
import os
import socket
import unittest

from harness import BLK, AppTest, description

DEVICE_KEYS = (
    "name, socket, store, queues, queue-size, serial, read-only, cache, lock, block-size, "
    "connect, fd, packed, iommu, iopoll, sqpoll, fixed-buffers"
)
CACHES = "none, writeback, writethrough, directsync, unsafe, auto"


class Answers(AppTest):
    def test_the_description_for_discovery_tells_the_same(self):
        said = description(BLK)
        done = self.run_program("--print-capabilities")
        self.assertEqual(set(said), {"description", "type", "binary"})
        self.assertEqual(said["type"], json.loads(done.stdout)["type"])
        self.assertEqual(os.path.basename(said["binary"]), os.path.basename(BLK))
        self.assertTrue(os.path.isabs(said["binary"]))
        self.assertTrue(said["description"])

    def test_capabilities_are_json_and_other_options_are_ignored(self):
        for args in [], ["--nonsense", "--fd=x"], ["--socket-path=/nowhere/x"]:
            done = self.run_program("--print-capabilities", *args)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(
                json.loads(done.stdout), {"type": "block", "features": ["read-only", "blk-file"]}
            )
            self.assertEqual(done.stderr, "")

    def test_options_may_be_abbreviated(self):
        for option in "--print", "--ver", "--he":
            self.assertEqual(self.run_program(option).returncode, 0)

    def test_version(self):
        done = self.run_program("--version")
        self.assertRegex(done.stdout, r"^ringbolt-blk \d+\.\d+\.\d+\n$")
        self.assertEqual(done.returncode, 0)

    def test_help_names_every_option_and_key(self):
        done = self.run_program("--help")
        self.assertEqual(done.returncode, 0)
        for word in DEVICE_KEYS.split(", "):
            self.assertIn(f"\n    {word} ", done.stdout)
        for option in (
            "socket-path fd blk-file read-only print-capabilities device cpus poll control "
            "log-level version help"
        ).split():
            self.assertIn(f"--{option}", done.stdout)

    def test_output_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            pid = os.posix_spawn(
                BLK,
                [BLK, "--help"],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, full.fileno(), 1)],
            )
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 1)


class WrongOptions(AppTest):
    def test_unknown_options_are_named_with_the_nearest(self):
        for args, message in [
            (["--sokcet-path=x"], "--sokcet-path: unknown option; did you mean '--socket-path'?"),
            (["--blkfile", "x"], "--blkfile: unknown option; did you mean '--blk-file'?"),
            (["--readonly"], "--readonly: unknown option; did you mean '--read-only'?"),
            (["--zzz"], "--zzz: unknown option, see --help"),
            (["-x"], "-x: unknown option, see --help"),
            (["-xh"], "-x: unknown option, see --help"),
            (["--p=busy"], "--p: unknown option, see --help"),
            (["--read-only=on"], "--read-only=on: expected --read-only without a value"),
            (["--blk-file"], "--blk-file: expected a value"),
            (["disk.raw"], "'disk.raw': expected an option, see --help"),
        ]:
            with self.subTest(args=args):
                self.assert_refused(args, message)

    def test_something_to_do_is_needed(self):
        self.assert_refused(
            [],
            "expected a device (--device or --socket-path and --blk-file) or --control, "
            "see --help",
        )

    def test_options_given_twice(self):
        self.assert_refused(
            ["--poll=busy", "--poll=busy"], "--poll: expected once, given twice"
        )

    def test_backend_program_conventions_need_both_ends(self):
        self.assert_refused(
            [f"--socket-path={self.socket}"],
            "--blk-file: expected PATH of the image to serve",
        )
        self.assert_refused(
            ["--blk-file=x"],
            "--socket-path: expected PATH of the socket to listen at (or --fd)",
        )
        self.assert_refused(
            ["--blk-file=x", "--fd=9", "--socket-path=y"],
            "--fd: expected either --fd or --socket-path, not both",
        )


class WrongValues(AppTest):
    def test_process_options(self):
        for args, message in [
            (
                ["--poll=bussy"],
                "--poll: 'bussy': expected one of busy, adaptive, interrupt; "
                "did you mean 'busy'?",
            ),
            (
                ["--log-level=warn"],
                "--log-level: 'warn': expected one of error, warning, info, debug; "
                "did you mean 'warning'?",
            ),
            (["--cpus=a"], "--cpus: 'a': expected a list such as 2,4-6, each CPU once"),
            (["--cpus="], "--cpus: '': expected a list such as 2,4-6, each CPU once"),
            (
                ["--cpus=8191"],
                "--cpus: '8191': expected CPUs this process may use, CPU 8191 is not one",
            ),
            (["--fd=x"], f"--fd: 'x': expected a whole number from 0 to {2**31 - 1}"),
            (["--fd=-1"], f"--fd: '-1': expected a whole number from 0 to {2**31 - 1}"),
            (["--socket-path="], "--socket-path: '': expected a value that is not empty"),
            (["--blk-file="], "--blk-file: '': expected a value that is not empty"),
            (["--control="], "--control: '': expected a value that is not empty"),
        ]:
            with self.subTest(args=args):
                self.assert_refused(args, message)

    def test_keys_of_a_device(self):
        good = "socket=s,store=null:1M"
        for text, message in [
            (
                f"{good},queue=4",
                f"'queue': unknown key, expected one of {DEVICE_KEYS}; did you mean 'queues'?",
            ),
            (f"{good},queues=0", "queues=0: expected a whole number from 1 to 64"),
            (f"{good},queues=65", "queues=65: expected a whole number from 1 to 64"),
            (f"{good},queues=two", "queues=two: expected a whole number from 1 to 64"),
            (
                f"{good},queue-size=0",
                "queue-size=0: expected a whole number from 1 to 32768",
            ),
            (
                f"{good},cache=nonne",
                f"cache=nonne: expected one of {CACHES}; did you mean 'none'?",
            ),
            (
                f"{good},lock=of",
                "lock=of: expected one of open, start, off; did you mean 'off'?",
            ),
            (
                f"{good},block-size=1024",
                "block-size=1024: expected one of auto, 512, 4096",
            ),
            (
                f"{good},read-only=onn",
                "read-only=onn: expected on or off; did you mean 'on'?",
            ),
            (f"{good},read-only", "'read-only': expected read-only=VALUE"),
            (f"{good},name=a,name=b", "name=b: the key is given twice"),
            (f"{good},name=", "name=: expected a value that is not empty"),
            (f"{good},name={'n' * 64}", f"name={'n' * 64}: expected at most 63 bytes"),
            (f"{good},serial={'s' * 21}", f"serial={'s' * 21}: expected at most 20 bytes"),
            (f"{good},fd=7", "expected either socket= or fd=, not both"),
            (
                "fd=7,connect=on,store=null:1M",
                "connect=on: expected a socket= to connect to",
            ),
            ("store=null:1M", "expected socket=PATH, where the front-end connects"),
            ("socket=s", "store= is missing: uring:PATH, null:SIZE or mem:SIZE"),
            (
                "socket=s,store=urng:x",
                "store=urng:x: expected one of uring:PATH, null:SIZE, mem:SIZE; "
                "did you mean 'uring:'?",
            ),
            (
                "socket=s,store=uring:",
                "store=uring:: expected one of uring:PATH, null:SIZE, mem:SIZE; "
                "did you mean 'uring:'?",
            ),
            (
                "socket=s,store=/img/x.raw",
                "store=/img/x.raw: expected one of uring:PATH, null:SIZE, mem:SIZE",
            ),
            (
                "socket=s,store=null:10X",
                "store=null:SIZE: '10X': expected a size in bytes, K, M, G, T or P "
                "of at least 512",
            ),
            (
                "socket=s,store=mem:0",
                "store=mem:SIZE: '0': expected a size in bytes, K, M, G, T or P of at least 512",
            ),
            (f"{good},", "expected key=value,key=value, found an empty item"),
        ]:
            with self.subTest(text=text):
                self.assert_refused(["--device", text], f"--device: {message}")

    def test_two_devices_of_one_name(self):
        one = f"name=a,socket={self.dir}/1,store=null:1M"
        two = f"name=a,socket={self.dir}/2,store=null:1M"
        self.assert_refused(
            ["--device", one, "--device", two],
            "--device: name=a: expected a name that no other device has",
        )

    def test_two_devices_of_one_descriptor(self):
        with socket.socket(socket.AF_UNIX) as sock:
            device = f"fd={sock.fileno()},store=null:1M"
            done = self.run_program(
                "--device", device, "--device", device, pass_fds=[sock.fileno()]
            )
        self.assertEqual(done.returncode, 2)
        self.assertIn("expected a socket of its own", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
