"""Teams of devices with the kernel on the other side: what passes goes on when a
member is lost, and comes back with it.

Two stations in network namespaces of their own send numbered datagrams to each
other all the time. What is lost while a member fails is not counted; that they go
on afterwards is the test.

SPDX-License-Identifier: BSD-3-Clause
"""
import contextlib
import json
import os
import subprocess
import sys
import threading

import guest
import net
import pytest

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="network namespaces need root")

PORT = 7007
# A station's whole program: it sends each number once, every 10 ms, and says which
# came back. Ends with its standard input.
ECHO = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", {PORT}))
print("ready", flush=True)
while True:
    data, peer = s.recvfrom(100)
    s.sendto(data, peer)
"""
ASK = f"""
import select, socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
n = 0
while True:
    try:
        s.sendto(str(n).encode(), (sys.argv[1], {PORT}))
    except OSError:
        pass
    n += 1
    if select.select([s], [], [], 0.01)[0]:
        print(s.recvfrom(100)[0].decode(), n, flush=True)
"""


def run(*argv):
    return guest.debs.run([str(a) for a in argv])


class Space:
    """A network namespace; programs in it end with it."""

    count = 0

    def __init__(self):
        Space.count += 1
        self.name = f"rbteam{os.getpid()}-{Space.count}"
        self.processes = []

    def __enter__(self):
        run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
        run("ip", "netns", "del", self.name)

    def ip(self, *words):
        run("ip", "-n", self.name, *words)

    def python(self, program, *args):
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, sys.executable, "-c", program, *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process


class Asker:
    """Counts the answers as they come."""

    def __init__(self, space, address):
        self.answers = 0
        self.process = space.python(ASK, address)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for _ in self.process.stdout:
            self.answers += 1

    def wait_for_more(self, what, timeout=60):
        """A hundred answers from now on."""
        goal = self.answers + 100
        guest.wait_until(lambda: self.answers >= goal, timeout, what)


class Switch(net.RingboltNet):
    """A ringbolt-net of uplinks in a network namespace."""

    def __init__(self, workdir, space, uplinks):
        super().__init__(workdir, [], uplinks)
        self.control = workdir / f"{space.name}.ctl"
        self.space = space

    def argv(self):
        return ["ip", "netns", "exec", self.space.name, *super().argv()]

    def start(self):
        super().start()
        guest.wait_until(lambda: self.control.is_socket() or not self.process.alive, 20, "control")
        self.check()
        return self

    def members(self):
        status = json.loads(self.ctl("status", "up0", "--json"))["ports"][0]
        return status["team"]["members"]


def station(switch, space, tap, address):
    """The kernel's end of a TAP uplink, as a station elsewhere."""
    switch.space.ip("link", "set", tap, "netns", space.name)
    space.ip("link", "set", tap, "up")
    space.ip("addr", "add", f"{address}/24", "dev", tap)


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("mode", ["active-backup", "balance-xor"])
def test_a_team_survives_the_loss_of_either_member(workdir, stack, mode):
    inside, near = [stack.enter_context(Space()) for _ in range(2)]
    switch = stack.enter_context(Switch(workdir, inside, [
        f"name=up0,dev=net_tap0;iface=m0+net_tap1;iface=m1,team={mode}",
        "name=station,dev=net_tap2;iface=s0,link=up"]))
    # What is behind the team: a bridge that has both of its cables, and an address.
    inside.ip("link", "add", "br0", "address", "02:00:00:00:77:01", "type", "bridge")
    inside.ip("link", "set", "br0", "up")
    inside.ip("addr", "add", "10.77.0.1/24", "dev", "br0")
    for member in "m0", "m1":
        inside.ip("link", "set", member, "master", "br0", "up")
    station(switch, near, "s0", "10.77.0.2")
    inside.python(ECHO).stdout.readline()
    asker = Asker(near, "10.77.0.1")
    asker.wait_for_more("answers over both members")
    for member in "m0", "m1", "m0":
        inside.ip("link", "set", member, "down")
        asker.wait_for_more(f"answers without {member}")
        inside.ip("link", "set", member, "up")
        asker.wait_for_more(f"answers with {member} again")
    assert [m["link"] for m in switch.members()] == ["up", "up"]


def lacp_pair(workdir, stack):
    """Two switches in namespaces, two cables between them, a station behind each;
    the switches, the namespace of the first, and who asks across."""
    left, right, near, far = [stack.enter_context(Space()) for _ in range(4)]
    for i in range(2):
        left.ip("link", "add", f"m{i}", "type", "veth", "peer", "name", f"m{i}", "netns",
                right.name)
        for space in left, right:
            space.ip("link", "set", f"m{i}", "up")
    uplinks = ["name=up0,dev=net_af_packet0;iface=m0+net_af_packet1;iface=m1,team=802.3ad",
               "name=station,dev=net_tap2;iface=s0,link=up"]
    switches = [stack.enter_context(Switch(workdir, space, uplinks)) for space in (left, right)]
    station(switches[0], near, "s0", "10.78.0.2")
    station(switches[1], far, "s0", "10.78.0.1")
    far.python(ECHO).stdout.readline()
    for switch in switches:
        guest.wait_until(lambda: all(m["distributing"] for m in switch.members()), 60, "LACP")
    return switches, left, Asker(near, "10.78.0.1")


def test_two_teams_agree_by_lacp(workdir, stack):
    _, _, asker = lacp_pair(workdir, stack)
    asker.wait_for_more("answers over both members")


@pytest.mark.slow
def test_lacp_finds_out_that_a_member_carries_nothing(workdir, stack):
    # A packet socket always reports a link, so only the protocol notices: after
    # 90 seconds without a word. IEEE 802.1AX, "Constants": Long_Timeout_Time.
    switches, left, asker = lacp_pair(workdir, stack)
    left.ip("link", "set", "m0", "down")
    guest.wait_until(lambda: not switches[1].members()[0]["distributing"], 200, "LACP to notice")
    asker.wait_for_more("answers over the member that is left")
    left.ip("link", "set", "m0", "up")
    guest.wait_until(lambda: switches[1].members()[0]["distributing"], 120, "LACP to agree again")
    asker.wait_for_more("answers over both again")
