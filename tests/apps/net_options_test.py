#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ringbolt-net's command line: what is said about every wrong option or value."""

import json
import os
import socket
import unittest

from harness import NET, AppTest, description, get_features, unix_socket

SWITCH_KEYS = (
    "vlan, trunk, native, enabled, isolated, loopback, learning, flooding, anti-spoof, "
    "allowed-macs, static-macs, mirror, limit-in, limit-in-burst, limit-in-frames, "
    "limit-in-frames-burst, "
    "limit-out, limit-out-burst, limit-out-frames, limit-out-frames-burst, storm-broadcast, "
    "storm-broadcast-burst, storm-multicast, storm-multicast-burst, storm-unknown, "
    "storm-unknown-burst"
)
PORT_KEYS = (
    "name, socket, mode, fd, queues, queue-size, mac, mtu, speed, tx-usecs, packed, iommu, ctrl-vq, "
    f"rss, features, acl, {SWITCH_KEYS}"
)
UPLINK_KEYS = f"name, dev, vf, owner, team, queues, mtu, offloads, link, acl, {SWITCH_KEYS}"


class NetTest(AppTest):
    program = NET


class Answers(NetTest):
    def test_the_description_for_discovery_tells_the_same(self):
        said = description(NET)
        done = self.run_program("--print-capabilities")
        self.assertEqual(set(said), {"description", "type", "binary"})
        self.assertEqual(said["type"], json.loads(done.stdout)["type"])
        self.assertEqual(os.path.basename(said["binary"]), os.path.basename(NET))
        self.assertTrue(os.path.isabs(said["binary"]))
        self.assertTrue(said["description"])

    def test_capabilities_are_json_and_other_options_are_ignored(self):
        for args in [], ["--nonsense", "--fd=x"], ["--socket-path=/nowhere/x"]:
            done = self.run_program("--print-capabilities", *args)
            self.assertEqual(done.returncode, 0)
            self.assertEqual(json.loads(done.stdout), {"type": "net"})
            self.assertEqual(done.stderr, "")

    def test_version(self):
        done = self.run_program("--version")
        self.assertRegex(done.stdout, r"^ringbolt-net \d+\.\d+\.\d+\n$")
        self.assertEqual(done.returncode, 0)

    def test_help_names_every_option_and_key(self):
        done = self.run_program("--help")
        self.assertEqual(done.returncode, 0)
        for word in f"{PORT_KEYS}, {UPLINK_KEYS}".split(", "):
            self.assertIn(f"\n    {word} ", done.stdout)
        for option in (
            "socket-path fd print-capabilities port uplink mac-table ageing forward-reserved "
            "pages memory cpus poll control log-level version help"
        ).split():
            self.assertIn(f"--{option}", done.stdout)


class WrongOptions(NetTest):
    def test_unknown_options_are_named_with_the_nearest(self):
        for args, message in [
            (["--prot=x"], "--prot: unknown option; did you mean '--port'?"),
            (["--uplnk", "x"], "--uplnk: unknown option; did you mean '--uplink'?"),
            (["--zzz"], "--zzz: unknown option, see --help"),
            (["--port"], "--port: expected a value"),
            (["vm1"], "'vm1': expected an option, see --help"),
            (
                ["--forward-reserved=on"],
                "--forward-reserved=on: expected --forward-reserved without a value",
            ),
        ]:
            with self.subTest(args=args):
                self.assert_refused(args, message)

    def test_something_to_do_is_needed(self):
        self.assert_refused(
            [], "expected a port (--port or --socket-path) or --control, see --help"
        )

    def test_one_of_two_ways_to_connect(self):
        self.assert_refused(
            ["--fd=9", "--socket-path=y"],
            "--fd: expected either --fd or --socket-path, not both",
        )

    def test_options_given_twice(self):
        self.assert_refused(["--ageing=1", "--ageing=2"], "--ageing: expected once, given twice")


class WrongValues(NetTest):
    def test_process_options(self):
        for args, message in [
            (["--mac-table=0"], "--mac-table: '0': expected a whole number from 1 to "),
            (["--ageing=0"], "--ageing: '0': expected a whole number from 1 to "),
            (
                ["--pages=hug"],
                "--pages: 'hug': expected one of auto, huge, small; did you mean 'huge'?",
            ),
            (
                ["--memory=1M"],
                "--memory: '1M': expected a size in bytes, K, M, G, T or P of at least 16777216",
            ),
        ]:
            with self.subTest(args=args):
                done = self.run_program(*args)
                self.assertTrue(done.stderr.startswith(f"ringbolt-net: {message}"), done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)
                self.assertEqual(done.returncode, 2)

    def test_keys_of_a_port(self):
        for text, message in [
            (
                "socket=s,queue=4",
                f"'queue': unknown key, expected one of {PORT_KEYS}; did you mean 'queues'?",
            ),
            ("socket=s,queues=65", "queues=65: expected a whole number from 1 to 64"),
            (
                "socket=s,mode=servr",
                "mode=servr: expected one of server, client; did you mean 'server'?",
            ),
            ("name=a", "expected socket=PATH, where the front-end connects"),
            ("socket=s,fd=7", "expected either socket= or fd=, not both"),
            ("fd=7,mode=client", "mode=client: expected a socket= to connect to"),
            ("socket=s,tx-usecs=10001", "tx-usecs=10001: expected a whole number from 0 to 10000"),
            ("socket=s,mtu=67", "mtu=67: expected a whole number from 68 to 65535"),
            (
                "socket=s,mac=52:54:00:12:34",
                "mac=52:54:00:12:34: expected a unicast address such as 52:54:00:12:34:56",
            ),
            (
                "socket=s,mac=01:00:5e:00:00:01",
                "mac=01:00:5e:00:00:01: expected a unicast address such as 52:54:00:12:34:56",
            ),
            ("socket=s,vlan=0", "vlan=0: expected a whole number from 1 to 4094"),
            ("socket=s,vlan=4095", "vlan=4095: expected a whole number from 1 to 4094"),
            (
                "socket=s,vlan=5,trunk=all",
                "vlan=5: expected either vlan= or trunk= and native=, not both",
            ),
            (
                "socket=s,trunk=1-",
                "trunk=1-: expected all, or VLANs from 1 to 4094 as in 10:20-29",
            ),
            (
                "socket=s,allowed-macs=52:54:00:12:34:56+x",
                "allowed-macs=52:54:00:12:34:56+x: expected none or up to 16 addresses such as "
                "52:54:00:12:34:56, separated by +",
            ),
            *(
                (
                    f"socket=s,static-macs={value}",
                    f"static-macs={value}: expected none or up to 16 addresses such as "
                    "52:54:00:12:34:56 or 52:54:00:12:34:56@10, separated by +",
                )
                for value in (
                    "52:54:00:12:34:56@",
                    "52:54:00:12:34:56@0",
                    "52:54:00:12:34:56@4095",
                    "52:54:00:12:34:56@1x",
                    "52:54:00:12:34:56@+1",
                    "52:54:00:12:34:56+",
                    "52:54:00:12:34:560",
                    "@5",
                )
            ),
            (f"socket=s,name={'n' * 64}", f"name={'n' * 64}: expected at most 63 bytes"),
            (f"socket=s,mirror={'n' * 64}", f"mirror={'n' * 64}: expected at most 63 bytes"),
            ("socket=s,isolated=maybe", "isolated=maybe: expected on or off"),
            (
                "socket=s,limit-in=10X",
                "limit-in=10X: expected a size in bytes, K, M, G, T or P "
                "from 0 to 1000000000000",
            ),
            ("socket=s,", "expected key=value,key=value, found an empty item"),
        ]:
            with self.subTest(text=text):
                self.assert_refused(["--port", text], f"--port: {message}")

    def test_more_static_addresses_than_a_port_may_have(self):
        many = "+".join(["52:54:00:12:34:56"] * 17)
        done = self.run_program("--port", f"socket=s,static-macs={many}")
        self.assertEqual(done.returncode, 2)
        self.assertIn("up to 16 addresses", done.stderr)

    def test_keys_of_an_uplink(self):
        for text, message in [
            (
                "dev=net_null0,que=1",
                f"'que': unknown key, expected one of {UPLINK_KEYS}; did you mean 'queues'?",
            ),
            (
                "name=up0",
                "expected dev= or vf=, and not both",
            ),
            ("dev=a,vf=b", "expected dev= or vf=, and not both"),
            ("dev=a,owner=b", "owner=: expected with vf= only"),
            ("vf=+", "vf=: expected 1 to 8 devices, joined by +"),
            ("dev=+", "dev=: expected 1 to 8 devices, joined by +"),
            ("dev=" + "+".join("abcdefghi"), "dev=: expected 1 to 8 devices, joined by +"),
            (
                "dev=a,team=lacp",
                "team=lacp: expected one of none, active-backup, balance-xor, 802.3ad",
            ),
            ("dev=a+b,team=none", "team=none: expected a single device, or another word"),
            ("dev=a,offloads=offf", "offloads=offf: expected one of auto, on, off; did you mean 'off'?"),
            ("dev=a,link=down", "link=down: expected one of auto, up"),
        ]:
            with self.subTest(text=text):
                self.assert_refused(["--uplink", text], f"--uplink: {message}")

    def test_a_name_is_of_one_port_or_uplink(self):
        one = f"name=a,socket={self.dir}/1"
        for option, two in [("--port", f"name=a,socket={self.dir}/2"), ("--uplink", "name=a,dev=x")]:
            self.assert_refused(
                ["--port", one, option, two],
                f"{option}: name=a: expected a name that no other port or uplink has",
            )

    def test_two_ports_of_one_descriptor(self):
        with socket.socket(socket.AF_UNIX) as sock:
            port = f"fd={sock.fileno()}"
            done = self.run_program("--port", port, "--port", port, pass_fds=[sock.fileno()])
        self.assertEqual(done.returncode, 2)
        self.assertIn("expected a socket of its own", done.stderr)


class Failures(NetTest):
    def test_an_uplink_that_cannot_be_had(self):
        self.assert_fails(
            ["--uplink", "name=up0,dev=net_nonsense0"], "up0: net_nonsense0: DPDK cannot attach it"
        )

    def test_a_vf_that_is_none(self):
        for vf, message in [
            ("nonsense", "'nonsense': expected the address of a PCI function"),
            ("ffff:1f:1f.7", "ffff:1f:1f.7: no such PCI function"),
            ("lo/0", "lo: the network device has no PCI function"),
        ]:
            self.assert_fails(["--uplink", f"name=up0,vf={vf}"], f"up0: {message}")

    def one_port(self, path):
        """Both ways to ask for one port and nothing else."""
        return ["--port", f"name=vm1,socket={path}"], [f"--socket-path={path}"]

    def socket_fails(self, path, *parts):
        for args in self.one_port(path):
            with self.subTest(args=args):
                self.assert_fails(args, *parts)

    def test_a_live_server_is_refused_and_lives_on(self):
        self.start(f"--socket-path={self.socket}")
        self.socket_fails(self.socket, self.socket, "live server")
        with unix_socket(self.socket) as sock:
            get_features(sock)

    def test_what_is_not_a_socket_is_never_deleted(self):
        self.socket.write_text("precious", encoding="utf-8")
        self.socket_fails(self.socket, self.socket, "not a socket")
        self.assertEqual(self.socket.read_text(encoding="utf-8"), "precious")
        self.socket.unlink()
        self.socket.mkdir()
        self.socket_fails(self.socket, self.socket, "not a socket")
        self.assertTrue(self.socket.is_dir())

    def test_a_socket_path_too_long(self):
        self.socket_fails(f"{self.dir}/{'x' * 200}", "too long")

    def test_a_missing_directory(self):
        self.socket_fails(f"{self.dir}/none/s", "No such file")

    def test_a_descriptor_that_is_no_socket(self):
        with open("/dev/null", "rb") as null:
            for args in [f"--fd={null.fileno()}"], ["--port", f"name=vm1,fd={null.fileno()}"]:
                self.assert_fails(args, null.fileno(), "socket", pass_fds=[null.fileno()])

    def test_several_ports_that_fail_with_the_last(self):
        self.assert_fails(
            ["--port", f"socket={self.socket}", "--port", f"socket={self.dir}/none/s"],
            "No such file",
        )

    def test_a_port_that_fails_takes_uplinks_with_it(self):
        (self.dir / "file").write_text("precious", encoding="utf-8")
        self.assert_fails(
            [
                "--uplink",
                "dev=net_null0;no-rx=1",
                "--port",
                f"name=vm1,socket={self.dir}/file",
            ],
            "not a socket",
        )

    def test_access_rules_that_are_wrong(self):
        rules = self.dir / "rules"
        for text, message in [
            ("[{}]", "action"),
            ('[{"action": "alow"}]', "alow"),
            ("nonsense", "rules"),
        ]:
            rules.write_text(text, encoding="utf-8")
            self.assert_fails(["--port", f"socket={self.dir}/s,acl={rules}"], message)
        self.assert_fails(["--port", f"socket={self.dir}/s,acl={self.dir}/none"], "none")


if __name__ == "__main__":
    unittest.main(verbosity=2)
