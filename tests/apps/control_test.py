#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control socket and ringboltctl: see and change a running ringbolt-blk."""

import json
import os
import unittest

from harness import AppTest, Control, get_features, unix_socket

INVALID_PARAMS = -32602
METHOD_NOT_FOUND = -32601
FAILED = -32000


class ControlTest(AppTest):
    def setUp(self):
        super().setUp()
        self.disk = self.image()
        self.blk = self.start(
            "--control",
            self.control,
            "--device",
            f"name=vda1,socket={self.socket},store=uring:{self.disk},queues=2",
        )


class Methods(ControlTest):
    def refused(self, method, code, message, **params):
        with Control(self.control) as ctl:
            error = ctl.call(method, **params)["error"]
        self.assertEqual(error, {"code": code, "message": message})

    def test_version(self):
        with Control(self.control) as ctl:
            result = ctl.call("version")["result"]
        self.assertEqual(result["program"], "ringbolt-blk")
        self.assertRegex(result["version"], r"^\d+\.\d+\.\d+$")

    def test_status_tells_devices_rings_and_loops(self):
        with Control(self.control) as ctl, unix_socket(self.socket) as sock:
            get_features(sock)
            result = ctl.call("status")["result"]
        (device,) = result["devices"]
        self.assertEqual(device["name"], "vda1")
        self.assertEqual(device["socket"], str(self.socket))
        self.assertEqual(device["store"], f"uring:{self.disk}")
        self.assertEqual(device["capacity"], 1 << 20)
        self.assertEqual(device["connection"], "up")
        self.assertEqual([r["state"] for r in device["rings"]], ["stopped", "stopped"])
        (loop,) = result["loops"]
        self.assertEqual((loop["name"], loop["mode"]), ("loop0", "adaptive"))
        self.assertLessEqual(0, loop["busy"])

    def test_status_of_one_device(self):
        with Control(self.control) as ctl:
            self.assertEqual(len(ctl.call("status", name="vda1")["result"]["devices"]), 1)
        self.refused("status", FAILED, "no device 'vda'; did you mean 'vda1'?", name="vda")

    def test_add_takes_strings_or_the_natural_json_types(self):
        other = self.dir / "2.sock"
        third = self.dir / "3.sock"
        with Control(self.control) as ctl:
            result = ctl.call(
                "add",
                name="vdb",
                socket=str(other),
                store="null:1G",
                queues="3",
                **{"read-only": "on"},
            )
            self.assertEqual(result["result"], {"name": "vdb"})
            result = ctl.call(
                "add", socket=str(third), store="mem:4M", queues=3, **{"block-size": 4096}
            )
            self.assertEqual(result["result"], {"name": "vblk0"})
            devices = ctl.call("status")["result"]["devices"]
        self.assertEqual([d["name"] for d in devices], ["vda1", "vdb", "vblk0"])
        self.assertEqual([d["capacity"] for d in devices], [1 << 20, 1 << 30, 4 << 20])
        self.assertEqual([(d["queues"], len(d["rings"])) for d in devices], [(2, 2), (3, 3), (3, 3)])
        for path in other, third:
            with unix_socket(path) as sock:
                get_features(sock)

    def test_wrong_parameters_are_named_as_on_the_command_line(self):
        base = {"socket": str(self.dir / "2.sock"), "store": "null:1G"}
        self.refused(
            "add",
            INVALID_PARAMS,
            "add: queues=0: expected a whole number from 1 to 64",
            **base,
            queues=0,
        )
        for value, shown in (-1, "-1"), (1.5, "1.5"), (None, "null"), ([], "[]"), (True, "on"):
            self.refused(
                "add",
                INVALID_PARAMS,
                f"add: queues={shown}: expected a whole number from 1 to 64",
                **base,
                queues=value,
            )
        self.refused("add", INVALID_PARAMS, "add: name: expected a string", **base, name=5)
        self.refused(
            "add",
            INVALID_PARAMS,
            "add: fd: expected socket=, descriptors are for the command line",
            store="null:1G",
            fd=3,
        )
        self.refused(
            "add",
            INVALID_PARAMS,
            "add: store= is missing: uring:PATH, null:SIZE or mem:SIZE",
            socket="x",
        )
        self.refused(
            "remove", INVALID_PARAMS, "remove: name= is missing: the device to remove"
        )
        self.refused(
            "version", INVALID_PARAMS, "version: 'x': unknown key, expected one of ", x=1
        )
        self.refused("staus", METHOD_NOT_FOUND, "no method 'staus'; did you mean 'status'?")

    def test_what_cannot_be_added_leaves_nothing_behind(self):
        path = self.dir / "2.sock"
        with Control(self.control) as ctl:
            answers = [
                ctl.call("add", socket=str(path), store=f"uring:{self.dir}/none"),
                ctl.call("add", socket=str(path), store=f"uring:{self.disk}"),
                ctl.call("add", socket=str(self.socket), store="null:1M"),
                ctl.call("add", socket=str(path), store="null:1M", name="vda1"),
            ]
            devices = ctl.call("status")["result"]["devices"]
        self.assertEqual([a["error"]["code"] for a in answers], [FAILED] * 4)
        self.assertIn("does not exist", answers[0]["error"]["message"])
        self.assertIn("lock", answers[1]["error"]["message"])
        self.assertIn("live server", answers[2]["error"]["message"])
        self.assertIn("vda1", answers[3]["error"]["message"])
        self.assertEqual(len(devices), 1)
        self.assertFalse(path.exists())

    def test_remove_closes_the_connection_and_frees_name_image_and_socket(self):
        with Control(self.control) as ctl, unix_socket(self.socket) as sock:
            get_features(sock)
            self.assertEqual(ctl.call("remove", name="vda1")["result"], {"name": "vda1"})
            self.assertEqual(sock.recv(1), b"")
            self.assertFalse(self.socket.exists())
            self.assertEqual(ctl.call("status")["result"]["devices"], [])
            error = ctl.call("remove", name="vda1")["error"]
            self.assertEqual(error["message"], "no device 'vda1'")
            again = ctl.call(
                "add", name="vda1", socket=str(self.socket), store=f"uring:{self.disk}"
            )
            self.assertEqual(again["result"], {"name": "vda1"})

    def test_resize_takes_the_files_size_or_sets_it(self):
        with Control(self.control) as ctl:
            result = ctl.call("resize", name="vda1", size="2M")
            self.assertEqual(result["result"], {"name": "vda1", "capacity": 2 << 20})
            self.assertEqual(self.disk.stat().st_size, 2 << 20)
            with open(self.disk, "r+b") as f:
                f.truncate(3 << 20)
            result = ctl.call("resize", name="vda1")
            self.assertEqual(result["result"]["capacity"], 3 << 20)

    def test_resize_refuses_what_is_no_size_for_it(self):
        with Control(self.control) as ctl:
            error = ctl.call("resize", name="vda1", size=1000)["error"]
            self.assertEqual(error["code"], FAILED)
            self.assertIn("1000", error["message"])
            error = ctl.call("resize", name="vda1", size="1Y")["error"]
            self.assertEqual(error["code"], INVALID_PARAMS)
            with open(self.disk, "r+b") as f:
                f.truncate(0)
            self.assertIn("error", ctl.call("resize", name="vda1"))
            status = ctl.call("status", name="vda1")["result"]["devices"][0]
        self.assertEqual(status["capacity"], 1 << 20)


class BadClients(ControlTest):
    def test_garbage_is_answered_and_the_next_request_served(self):
        with Control(self.control) as ctl:
            for line in b"garbage\n", b"{}\n", b"[]\n", b"\xff\n", b'{"jsonrpc":"2.0","id":1}\n':
                ctl.send(line)
                self.assertIn("error", ctl.answer())
            self.assertIn("result", ctl.call("status"))

    def test_a_client_that_vanishes_in_a_line(self):
        for _ in range(100):
            ctl = Control(self.control)
            ctl.send(b'{"jsonrpc":"2.0","id":1,"method":"sta')
            ctl.close()
        with Control(self.control) as ctl:
            self.assertIn("result", ctl.call("status"))

    def test_a_client_that_vanishes_while_its_device_is_removed(self):
        ctl = Control(self.control)
        ctl.send(b'{"jsonrpc":"2.0","id":1,"method":"remove","params":{"name":"vda1"}}\n')
        ctl.close()
        self.blk.wait_for_line("vda1: removed")
        with Control(self.control) as ctl:
            self.assertEqual(ctl.call("status")["result"]["devices"], [])

    def test_a_flood_without_reading_stops_nobody(self):
        flood = Control(self.control)
        flood.sock.setblocking(False)
        try:
            for _ in range(100000):
                flood.send(b'{"jsonrpc":"2.0","id":1,"method":"status"}\n')
        except BlockingIOError:
            pass
        with Control(self.control) as ctl, unix_socket(self.socket) as sock:
            self.assertIn("result", ctl.call("status"))
            get_features(sock)
        flood.close()

    def test_no_descriptor_is_left_behind(self):
        def count():
            return len(os.listdir(f"/proc/{self.blk.process.pid}/fd"))

        before = count()
        for _ in range(50):
            with Control(self.control) as ctl:
                ctl.send(b"x\n")
                ctl.answer()
                ctl.call("add", name="x", socket=str(self.dir / "x"), store="null:1M")
                self.assertIn("result", ctl.call("remove", name="x"))
        # The end of the last client is noticed before this one is answered.
        with Control(self.control) as ctl:
            ctl.call("version")
            self.assertEqual(count(), before + 1)


class Ctl(ControlTest):
    def test_status_for_people(self):
        done = self.ctl("status")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in "vda1", "connection", "capacity", "(1 MiB)", "rings", "stopped", "loop0":
            self.assertIn(word, done.stdout)

    def test_json_is_the_answer_itself(self):
        status = self.ctl_json("status")
        self.assertEqual(status["devices"][0]["name"], "vda1")

    def test_options_may_follow_the_command(self):
        done = self.ctl("status", "vda1", "--json", f"--control={self.control}", control=False)
        self.assertEqual(json.loads(done.stdout)["devices"][0]["name"], "vda1")

    def test_the_environment_names_the_socket(self):
        done = self.ctl("version", control=False, env={"RINGBOLT_CONTROL": str(self.control)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("ringbolt-blk", done.stdout)

    def test_add_resize_remove(self):
        path = self.dir / "a,b.sock"
        escaped = str(path).replace(",", ",,")
        done = self.ctl("add", f"name=vdb,socket={escaped},store=null:1G,read-only=on")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "name  vdb\n")
        self.assertTrue(path.exists())
        done = self.ctl("resize", "vda1", "4M")
        self.assertEqual(done.stdout, "name      vda1\ncapacity  4194304 (4 MiB)\n")
        done = self.ctl("remove", "vdb")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(path.exists())

    def test_a_refusal_is_one_line_and_status_1(self):
        done = self.ctl("remove", "vda2")
        self.assertEqual(done.stderr, "ringboltctl: no device 'vda2'; did you mean 'vda1'?\n")
        self.assertEqual(done.returncode, 1)

    def test_wrong_usage_is_one_line_and_status_2(self):
        for args, message in [
            ([], "expected a command, see --help"),
            (
                ["statsu"],
                "'statsu': expected a command: status, ports, top, add, add-uplink, remove, "
                "resize, set, move, link, macs, mac-add, mac-del, mac-flush, acl, capture, "
                "version; did you mean 'status'?",
            ),
            (["remove"], "remove: expected NAME"),
            (["remove", "a", "b"], "remove: expected NAME, found something else"),
            (["version", "x"], "version: expected no argument, found something else"),
            (["add", "name"], "add: 'name': expected KEY=VALUE"),
            (["add", "a=1,a=2"], "add: a=2: the key is given twice"),
            (["--jsn", "status"], "--jsn: unknown option; did you mean '--json'?"),
            (["-x", "status"], "-x: unknown option, see --help"),
            (["-xh"], "-x: unknown option, see --help"),
            (["--json=x", "status"], "--json=x: expected --json without a value"),
        ]:
            with self.subTest(args=args):
                done = self.ctl(*args)
                self.assertEqual(done.stderr, f"ringboltctl: {message}\n")
                self.assertEqual(done.returncode, 2)

    def test_the_socket_must_be_named(self):
        done = self.ctl("status", control=False)
        self.assertIn("RINGBOLT_CONTROL", done.stderr)
        self.assertEqual(done.returncode, 2)

    def test_nobody_there(self):
        done = self.ctl("status", f"--control={self.dir}/none", control=False)
        self.assertIn(f"{self.dir}/none", done.stderr)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
