#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The control socket of ringbolt-net, and ringboltctl with it."""

import json
import os
import signal
import subprocess
import struct
import unittest

from harness import (
    CTL,
    NET,
    PATIENCE,
    AppTest,
    Control,
    get_features,
    set_features,
    unix_socket,
)

INVALID_PARAMS = -32602
FAILED = -32000

PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"


def blocks(data):
    """The types of the blocks of a pcapng file, each whole."""
    types = []
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length <= len(data) and struct.unpack_from("=I", data, length - 4)[0] == length
        types.append(kind)
        data = data[length:]
    return types


class NetControlTest(AppTest):
    program = NET

    def setUp(self):
        super().setUp()
        self.net = self.start(
            "--control",
            self.control,
            "--port",
            f"name=vm1,socket={self.socket},queues=2,vlan=10",
            "--port",
            f"name=vm2,socket={self.dir}/2.sock",
        )

    def refused(self, method, code, message, **params):
        with Control(self.control) as ctl:
            error = ctl.call(method, **params)["error"]
        self.assertEqual(error, {"code": code, "message": message})

    def port(self, name):
        (port,) = self.ctl_json("status", name)["ports"]
        return port


class Ports(NetControlTest):
    def test_status_tells_ports_switch_and_loops(self):
        with unix_socket(self.socket) as sock:
            get_features(sock)
            status = self.ctl_json("status")
        self.assertEqual(status["program"], "ringbolt-net")
        self.assertEqual([p["name"] for p in status["ports"]], ["vm1", "vm2"])
        vm1, vm2 = status["ports"]
        self.assertEqual((vm1["connection"], vm2["connection"]), ("up", "waiting"))
        self.assertEqual(vm1["switch"]["vlan"], 10)
        self.assertEqual((vm2["switch"]["trunk"], vm2["switch"]["native"]), ("all", 1))
        self.assertIn("no-buffer", vm1["switch"]["counters"]["drops"])
        self.assertEqual(len(status["loops"]), 1)
        self.assertEqual(status["switch"]["mac-table"]["entries-max"], 16384)

    def test_what_is_offered_is_a_mask_that_can_be_given_back(self):
        # VERSION_1, MRG_RXBUF, and what only the protocol knows of: LOG_ALL (26) and
        # PROTOCOL_FEATURES (30), without which there would be no second queue.
        pinned, protocol = 1 << 32 | 1 << 15, 1 << 26 | 1 << 30
        first = f"name=vm3,socket={self.dir}/3.sock,queues=2,features={pinned:#x}"
        self.ctl_json("add", first)
        self.assertEqual(self.port("vm3")["features-offered"], hex(pinned))
        with unix_socket(self.dir / "3.sock") as sock:
            self.assertEqual(get_features(sock), pinned | protocol)
            self.assertEqual(self.port("vm3")["features-negotiated"], "0x0")
            set_features(sock, 1 << 32 | protocol)
            self.assertEqual(get_features(sock), pinned | protocol)
            self.assertEqual(self.port("vm3")["features-negotiated"], "0x100000000")
        offered = self.port("vm1")["features-offered"]
        self.ctl_json("add", f"name=vm4,socket={self.dir}/4.sock,queues=2,features={offered}")
        self.assertEqual(self.port("vm4")["features-offered"], offered)
        with unix_socket(self.dir / "4.sock") as sock:
            self.assertEqual(get_features(sock), int(offered, 16) | protocol)

    def test_ports_is_a_table(self):
        rows = self.ctl_json("ports")["ports"]
        self.assertEqual([r["name"] for r in rows], ["vm1", "vm2"])
        self.assertEqual({r["kind"] for r in rows}, {"vhost-user"})
        lines = self.ctl("ports").stdout.splitlines()
        self.assertIn("in-frames", lines[1])
        self.assertEqual(len(lines), 4)

    def test_ports_come_and_go(self):
        path = self.dir / "3.sock"
        self.assertEqual(self.ctl_json("add", f"socket={path},queues=3"), {"name": "port0"})
        with unix_socket(path) as sock:
            get_features(sock)
            self.assertEqual(self.ctl_json("remove", "port0"), {"name": "port0"})
            self.assertEqual(sock.recv(1), b"")
        self.assertFalse(path.exists())
        self.refused("remove", FAILED, "no port 'port0'", name="port0")
        self.refused("remove", FAILED, "no port 'vm'; did you mean 'vm1'?", name="vm")

    def test_uplinks_come_and_go(self):
        self.assertEqual(
            self.ctl_json("add-uplink", "name=up0,dev=net_null0;no-rx=1,vlan=10"), {"name": "up0"}
        )
        up0 = self.port("up0")
        self.assertEqual((up0["type"], up0["driver"]), ("uplink", "net_null"))
        self.assertEqual(up0["devices"], ["net_null0,no-rx=1"])
        done = self.ctl("add-uplink", "name=up1,dev=net_null0")
        self.assertEqual(done.returncode, 1)
        self.assertIn("in use by another uplink", done.stderr)
        self.assertEqual(
            self.ctl_json("add-uplink", "name=up1,dev=net_null1;no-rx=1+net_null2;no-rx=1"),
            {"name": "up1"},
        )
        self.assertEqual(len(self.port("up1")["team"]["members"]), 2)
        for name in "up0", "up1":
            self.ctl_json("remove", name)
        self.assertEqual(self.ctl_json("add-uplink", "dev=net_null0"), {"name": "uplink0"})

    def test_wrong_parameters_are_named_as_on_the_command_line(self):
        self.refused(
            "add", INVALID_PARAMS, "add: expected socket=PATH, where the front-end connects"
        )
        self.refused(
            "add",
            INVALID_PARAMS,
            "add: fd: expected socket=, descriptors are for the command line",
            fd=3,
        )
        self.refused(
            "add",
            INVALID_PARAMS,
            "add: vlan=5000: expected a whole number from 1 to 4094",
            socket="x",
            vlan=5000,
        )
        self.refused("add", FAILED, "vm1: there is a port of that name", socket="x", name="vm1")


class Failures(AppTest):
    program = NET

    def test_the_program_may_end_right_after_a_port_that_cannot_be_had(self):
        params = {"socket": f"{self.dir}/none/s"}
        request = {"jsonrpc": "2.0", "id": 1, "method": "add", "params": params}
        for _ in range(10):
            net = self.start("--control", self.control)
            with Control(self.control) as ctl:
                ctl.call("version")
                # It finds both when it goes on, in this order.
                net.process.send_signal(signal.SIGSTOP)
                ctl.send(json.dumps(request) + "\n")
                net.process.send_signal(signal.SIGTERM)
                self.assertEqual(net.stop(signal.SIGCONT), 0, net.log())

    def test_what_could_not_be_had_can_be_had_at_once(self):
        self.start("--control", self.control)
        wrong, right = f"name=vm1,socket={self.dir}/none/s", f"name=vm1,socket={self.socket}"
        for _ in range(10):
            done = self.ctl("add", wrong)
            self.assertEqual(done.returncode, 1)
            self.assertIn("No such file", done.stderr)
            self.assertEqual(self.ctl_json("add", right), {"name": "vm1"})
            self.ctl_json("remove", "vm1")


class Settings(NetControlTest):
    def test_set_changes_what_is_named(self):
        before = self.port("vm1")["switch"]
        after = self.ctl_json("set", "vm1", "limit-in=10M,isolated=on")["switch"]
        self.assertEqual(after["limits"]["limit-in"], 10 << 20)
        for key in "vlan", "learning", "flooding", "enabled":
            self.assertEqual(after[key], before[key])
        self.assertTrue(after["isolated"])
        after = self.ctl_json("set", "vm1", "trunk=10:20-29,native=10")["switch"]
        self.assertEqual((after["trunk"], after["native"]), ("10,20-29", 10))
        self.assertEqual(after["limits"]["limit-in"], 10 << 20)
        after = self.ctl_json("set", "vm1", "vlan=7,limit-in=0")["switch"]
        self.assertEqual(after["vlan"], 7)
        self.assertNotIn("trunk", after)
        self.assertEqual(after["limits"], {})

    def test_a_limit_is_taken_away_with_its_burst(self):
        for key in (
            "limit-in limit-in-frames limit-out limit-out-frames "
            "storm-broadcast storm-multicast storm-unknown"
        ).split():
            with self.subTest(key=key):
                burst = f"{key}-burst"
                after = self.ctl_json("set", "vm1", f"{key}=1000000,{burst}=500000")["switch"]
                self.assertEqual(after["limits"], {key: 1000000, burst: 500000})
                after = self.ctl_json("set", "vm1", f"{key}=2000000")["switch"]
                self.assertEqual(after["limits"], {key: 2000000, burst: 500000})
                after = self.ctl_json("set", "vm1", f"{burst}=600000")["switch"]
                self.assertEqual(after["limits"], {key: 2000000, burst: 600000})
                done = self.ctl("set", "vm1", f"{key}=0,{burst}=600000")
                self.assertEqual(done.returncode, 1)
                self.assertIn("a limit with a burst but no rate", done.stderr)
                self.assertEqual(self.ctl_json("set", "vm1", f"{key}=0")["switch"]["limits"], {})

    def test_set_takes_names_and_lists_back(self):
        after = self.ctl_json(
            "set", "vm1", "mirror=vm2,allowed-macs=52:54:00:00:00:01+52:54:00:00:00:02"
        )["switch"]
        self.assertEqual(after["mirror"], "vm2")
        self.assertEqual(after["allowed-macs"], ["52:54:00:00:00:01", "52:54:00:00:00:02"])
        after = self.ctl_json("set", "vm1", "mirror=none,allowed-macs=none")["switch"]
        self.assertNotIn("mirror", after)
        self.assertEqual(after["allowed-macs"], [])

    def test_anti_spoofing_falls_back_to_the_address_that_was_told(self):
        mac = "52:54:00:00:00:07"
        self.ctl_json("add", f"name=vm3,socket={self.dir}/3.sock,mac={mac}")
        self.assertEqual(self.port("vm3")["switch"]["allowed-macs"], [])
        after = self.ctl_json("set", "vm3", "anti-spoof=on")["switch"]
        self.assertEqual((after["anti-spoof"], after["allowed-macs"]), (True, [mac]))
        other = "52:54:00:00:00:08"
        after = self.ctl_json("set", "vm3", f"allowed-macs={other}")["switch"]
        self.assertEqual(after["allowed-macs"], [other])
        after = self.ctl_json("set", "vm3", "allowed-macs=none")["switch"]
        self.assertEqual((after["anti-spoof"], after["allowed-macs"]), (True, [mac]))

    def test_what_cannot_be_set_changes_nothing(self):
        before = self.port("vm1")["switch"]
        for keys, message in [
            ("vlan=5,native=6", "expected either vlan= or trunk= and native="),
            ("anti-spoof=on", "anti-spoofing needs the MAC addresses"),
            ("queues=5", "'queues': unknown key"),
            ("mirror=vm1", "its own mirror"),
        ]:
            done = self.ctl("set", "vm1", keys)
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)
        self.assertEqual(self.port("vm1")["switch"], before)

    def test_the_mac_table(self):
        self.assertEqual(self.ctl_json("macs"), {"macs": []})
        self.ctl_json("mac-add", "52:54:00:00:00:01", 10, "vm1")
        (entry,) = self.ctl_json("macs", "vm1")["macs"]
        self.assertEqual(
            (entry["mac"], entry["vlan"], entry["port"], entry["static"]),
            ("52:54:00:00:00:01", 10, "vm1", True),
        )
        self.assertEqual(self.ctl_json("macs", "vm2"), {"macs": []})
        self.ctl_json("mac-flush")
        self.assertEqual(len(self.ctl_json("macs")["macs"]), 1)
        for args, message in [
            (["mac-add", "52:54:00:00:00:02", 11, "vm1"], "a VLAN that vm1 carries"),
            (["mac-add", "01:00:5e:00:00:01", 10, "vm1"], "expected a unicast address"),
            (["mac-add", "nonsense", 10, "vm1"], "mac=nonsense: expected an address"),
            (["mac-del", "52:54:00:00:00:02", 10], "is not in the table of VLAN 10"),
        ]:
            done = self.ctl(*args)
            self.assertEqual(done.returncode, 1, args)
            self.assertIn(message, done.stderr)
        self.ctl_json("mac-del", "52:54:00:00:00:01", 10)
        self.assertEqual(self.ctl_json("macs"), {"macs": []})

    def test_static_addresses_of_a_port(self):
        def table():
            return {(m["mac"], m["vlan"]) for m in self.ctl_json("macs", "vm1")["macs"]
                    if m["static"]}

        first, second = "52:54:00:00:00:01", "52:54:00:00:00:02"
        after = self.ctl_json("set", "vm1", f"vlan=10,static-macs={first}+{second}@10")["switch"]
        self.assertEqual(after["static-macs"], [first, f"{second}@10"])
        self.assertEqual(table(), {(first, 10), (second, 10)})
        # They stay with other changes, and follow the VLAN.
        self.ctl_json("set", "vm1", "isolated=on")
        self.ctl_json("mac-flush")
        self.assertEqual(table(), {(first, 10), (second, 10)})
        self.ctl_json("set", "vm1", "trunk=10:11,native=11")
        self.assertEqual(table(), {(first, 11), (second, 10)})
        for keys in ("vlan=11", f"static-macs={first}@12", "static-macs=01:00:5e:00:00:01"):
            done = self.ctl("set", "vm1", keys)
            self.assertEqual(done.returncode, 1)
            self.assertIn("a static MAC address", done.stderr)
        self.assertEqual(table(), {(first, 11), (second, 10)})
        self.ctl_json("set", "vm1", f"static-macs={second}")
        self.assertEqual(table(), {(second, 11)})
        self.ctl_json("set", "vm1", "static-macs=none")
        self.assertEqual(table(), set())
        self.ctl_json("add", f"name=vm9,socket={self.dir}/vm9.sock,vlan=9,static-macs={first}")
        (entry,) = self.ctl_json("macs", "vm9")["macs"]
        self.assertEqual((entry["mac"], entry["vlan"]), (first, 9))
        self.ctl_json("remove", "vm9")
        self.assertEqual(self.ctl_json("macs")["macs"], [])

    def test_access_rules(self):
        rules = self.dir / "rules.json"
        rules.write_text('[{"action": "allow", "dir": "in", "proto": "tcp"}, {"action": "drop"}]')
        answer = self.ctl_json("acl", "vm1", rules)
        self.assertEqual([r["action"] for r in answer["in"]], ["allow", "drop"])
        self.assertEqual([r["action"] for r in answer["out"]], ["drop"])
        self.assertEqual(self.ctl_json("acl", "vm1")["in"], answer["in"])
        self.ctl_json("set", "vm1", "isolated=on")
        self.assertEqual(self.ctl_json("acl", "vm1")["in"], answer["in"])
        rules.write_text('[{"action": "drop", "proto": "tpc"}]')
        done = self.ctl("acl", "vm1", rules)
        self.assertEqual(done.returncode, 1)
        self.assertIn("tpc", done.stderr)
        self.assertEqual(self.ctl_json("acl", "vm1")["in"], answer["in"])
        rules.write_text("[]")
        self.assertEqual(self.ctl_json("acl", "vm1", rules)["in"], [])

    def test_as_many_access_rules_as_there_may_be(self):
        rule = {"action": "allow", "dir": "both", "dst-mac": "52:54:00:00:00:00/24", "vlan": "10",
                "ethertype": "ipv6", "dst": "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128",
                "proto": "tcp", "src-port": "32768-60999"}
        many = [{**rule, "dst-port": str(1 + i)} for i in range(4096)]
        rules = self.dir / "rules.json"
        rules.write_text(json.dumps(many, indent=4))
        answer = self.ctl_json("acl", "vm1", rules)
        self.assertEqual([len(answer["in"]), len(answer["out"])], [4096, 4096])
        self.assertEqual(answer["in"][4095]["dst-port"], "4096")
        rules.write_text(json.dumps([*many, rule]))
        done = self.ctl("acl", "vm1", rules)
        self.assertEqual(done.returncode, 1)
        self.assertIn("4097 rules, expected at most 4096", done.stderr)
        self.assertEqual(len(self.ctl_json("acl", "vm1")["in"]), 4096)

    def test_link(self):
        self.assertEqual(self.ctl_json("link", "vm1", "off"), {"name": "vm1", "up": False})
        self.ctl_json("add-uplink", "name=up0,dev=net_null0;no-rx=1")
        done = self.ctl("link", "up0", "on")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is what its device says", done.stderr)


class Loops(AppTest):
    program = NET

    def test_queues_move_between_loops(self):
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            self.skipTest("one CPU")
        self.start(
            f"--cpus={cpus[0]},{cpus[1]}",
            "--control",
            self.control,
            "--port",
            f"name=vm1,socket={self.socket},queues=2",
            "--uplink",
            "name=up0,dev=net_null0;no-rx=1",
        )
        for loop in 1, 0, 1:
            self.assertEqual(self.ctl_json("move", "up0", loop), {"name": "up0", "loop": loop})
            while self.ctl_json("status", "up0")["ports"][0]["queues"][0]["loop"] != loop:
                pass
        self.assertEqual(self.ctl_json("move", "vm1", 1, 1), {"name": "vm1", "loop": 1})
        for args, message in [
            (["vm1", 2], "move: loop=2: expected 0 to 1"),
            (["vm1", 0, 2], "vm1: queue 2 cannot be moved: "),
            (["up0", 0, 1], "up0: queue 1 cannot be moved: "),
        ]:
            done = self.ctl("move", *args)
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)

    def test_uplinks_come_go_and_move_while_others_forward(self):
        cpus = sorted(os.sched_getaffinity(0))[:2]
        # net_null receives all the time, and takes what it is given.
        self.start(
            f"--cpus={','.join(map(str, cpus))}",
            "--control",
            self.control,
            "--uplink",
            "name=up0,dev=net_null0",
            "--uplink",
            "name=up1,dev=net_null1",
        )

        def taken(name):
            return self.port_counters(name)["in-frames"]

        for i in range(10):
            before = taken("up0"), taken("up1")
            self.ctl_json("add-uplink", "name=up2,dev=net_null2,queues=2,vlan=1")
            self.ctl_json("move", "up0", i % len(cpus))
            self.ctl_json("set", "up1", f"limit-out-frames={i},isolated={'on' if i % 2 else 'off'}")
            self.ctl_json("mac-flush")
            self.ctl_json("remove", "up2")
            while taken("up0") == before[0] or taken("up1") == before[1]:
                pass

    def port_counters(self, name):
        (port,) = self.ctl_json("status", name)["ports"]
        return port["switch"]["counters"]


class Rates(NetControlTest):
    def test_top_shows_what_happens_in_an_interval(self):
        # net_null receives all the time.
        self.ctl_json("add-uplink", "name=up0,dev=net_null0")
        rates = self.ctl_json("top", 1, 1)
        up0 = [p for p in rates["ports"] if p["port"] == "up0"][0]
        self.assertGreater(up0["in-frames/s"], 0)
        self.assertEqual(up0["in-burst"], 32)
        self.assertEqual([q["port"] for q in rates["queues"]], ["up0"])
        self.assertIn("drops/s", self.ctl("top", 1, 1).stdout)
        self.ctl_json("remove", "up0")

    def test_wrong_intervals(self):
        for args, message in [
            (["0"], "top: SECONDS: '0': expected a whole number from 1 to 86400"),
            (["1", "x"], "top: COUNT: 'x': expected a whole number of at least 1"),
        ]:
            done = self.ctl("top", *args)
            self.assertEqual(done.stderr, f"ringboltctl: {message}\n")
            self.assertEqual(done.returncode, 2)


class Captures(NetControlTest):
    def setUp(self):
        super().setUp()
        self.ctl_json("add-uplink", "name=up0,dev=net_null0")

    def capture(self, *args):
        return subprocess.Popen(
            [CTL, "--control", str(self.control), "capture", *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # What is read here and what communicate() reads must not be in a buffer.
            bufsize=0,
        )

    def test_so_many_frames(self):
        capture = self.capture("up0", "--count=10", "--snaplen=40")
        data, _ = capture.communicate(timeout=PATIENCE)
        self.assertEqual(capture.returncode, 0)
        self.assertTrue(data.startswith(PCAPNG_MAGIC))
        self.assertEqual(blocks(data)[2:], [6] * 10 + [5])

    def test_a_signal_ends_a_whole_file(self):
        capture = self.capture("up0", "--filter=ether[0] = 0")
        start = capture.stdout.read(1000)
        capture.send_signal(signal.SIGINT)
        data, _ = capture.communicate(timeout=PATIENCE)
        self.assertEqual(capture.returncode, 0)
        self.assertEqual(blocks(start + data)[-1], 5)

    def test_a_reader_that_dies_is_forgotten(self):
        for _ in range(5):
            capture = self.capture("up0")
            capture.stdout.read(1000)
            capture.kill()
            capture.communicate(timeout=PATIENCE)
        # The port is free again as soon as that has been noticed.
        while True:
            capture = self.capture("up0", "--count=1")
            data, errors = capture.communicate(timeout=PATIENCE)
            if capture.returncode == 0:
                break
            self.assertIn(b"somebody else is capturing", errors)
        self.assertEqual(blocks(data)[-1], 5)

    def test_a_port_may_go_while_it_is_captured(self):
        capture = self.capture("up0")
        capture.stdout.read(1000)
        self.ctl_json("remove", "up0")
        capture.communicate(timeout=PATIENCE)
        self.assertEqual(capture.returncode, 0)

    def test_the_program_may_end_while_it_captures(self):
        capture = self.capture("vm1")
        self.assertTrue(capture.stdout.read(4) == PCAPNG_MAGIC)
        self.assertEqual(self.net.stop(), 0)
        capture.communicate(timeout=PATIENCE)

    def test_what_is_wrong_is_said_before_the_file(self):
        for args, message in [
            (["vm3"], "no port 'vm3'; did you mean 'vm1'?"),
            (["vm1", "--filter=tcp prot 80"], "capture: filter=tcp prot 80: "),
            (["vm1", "--count=0"], "capture: count=0: expected a whole number of at least 1"),
        ]:
            capture = self.capture(*args)
            data, errors = capture.communicate(timeout=PATIENCE)
            self.assertEqual((capture.returncode, data), (1, b""))
            self.assertIn(message, errors.decode())
        done = self.ctl("ports", "--filter=tcp")
        self.assertEqual(
            done.stderr, "ringboltctl: --filter: expected with the command capture only\n"
        )
        self.assertEqual(done.returncode, 2)

    def test_the_answer_comes_before_the_file_on_the_same_connection(self):
        with unix_socket(self.control) as sock:
            request = {"jsonrpc": "2.0", "id": 7, "method": "capture"}
            request["params"] = {"name": "up0", "count": 1}
            sock.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while part := sock.recv(65536):
                data += part
        line, _, rest = data.partition(b"\n")
        answer = json.loads(line)
        self.assertEqual((answer["id"], answer["result"]["format"]), (7, "pcapng"))
        self.assertEqual(blocks(rest)[2:], [6, 5])


class Conventions(AppTest):
    program = NET

    def test_one_port_by_path_or_descriptor(self):
        self.start(f"--socket-path={self.socket}")
        with unix_socket(self.socket) as sock:
            features = get_features(sock)
        # VIRTIO_F_VERSION_1 and VIRTIO_NET_F_MRG_RXBUF.
        self.assertEqual(features >> 32 & 1, 1)
        self.assertEqual(features >> 15 & 1, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
