"""ringbolt-vf on emulated hardware and a real kernel: VFs are made, configured,
claimed, handed over, used and given back, and what must be refused is refused.

One machine for all (see lab.py); each test leaves it as it found it.

SPDX-License-Identifier: BSD-3-Clause
"""
import json
import re

import pytest

import guest
from lab import CROWD, NIC, NIC_VFS, NVME, NVME_VFS, second_guest

HOLD = "/tmp/build/tests/iommu/vfio_hold"
TOKEN = "00000000-1111-2222-3333-444444444444"
MACS = ["02:00:00:00:00:01", "02:00:00:00:00:02"]
# 256 KiB there and back again.
ECHO = """
import os, socket, sys, time
text = os.urandom(1 << 18)
if sys.argv[1] == "serve":
    listener = socket.create_server((sys.argv[2], 7777))
    peer, _ = listener.accept()
    while data := peer.recv(65536):
        peer.sendall(data)
else:
    for attempt in range(100):
        try:
            peer = socket.create_connection((sys.argv[2], 7777), 30)
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    got = b""
    for i in range(0, len(text), 4096):
        peer.sendall(text[i:i + 4096])
        while len(got) < i + 4096:
            got += peer.recv(65536)
    sys.exit(got != text)
"""


# A QEMU in the machine, stopped before its first instruction: it has opened,
# mapped and reset its VFs by then.
QEMU = ("qemu-system-x86_64 -machine q35 -accel tcg -m 64 -nodefaults -display none -S "
        "-monitor stdio")
ASK = r"$'info pci\nquit'"


@pytest.fixture
def nic(lab):
    """The network card, up, without VFs before and after."""
    lab.run(f"ip link set $(ls /sys/bus/pci/devices/{NIC}/net) up")
    yield NIC
    lab.clear(NIC)


@pytest.fixture
def vfs(lab, nic):
    """Two VFs of it, without a driver."""
    lab.vf("create", nic, 2, "--driver", "none")
    return NIC_VFS[:2]


@pytest.fixture
def nvme(lab):
    yield NVME
    lab.clear(NVME)


def functions(lab, *options):
    return {f["address"]: f for f in lab.vf("list", "--json", *options).json}


# ---- See ----

def test_functions_are_listed_with_their_facts(lab, vfs):
    seen = functions(lab)
    pf, vf = seen[NIC], seen[vfs[1]]
    assert set(seen) == {NIC, NVME, *vfs}
    assert (pf["driver"], pf["netdev"]["name"]) == ("igb", lab.netdev(NIC))
    assert pf["pf"].items() >= {"total-vfs": 7, "vfs": 2, "offset": 128, "stride": 2}.items()
    # The capability says eight, the driver seven: a BAR is an eighth.
    assert pf["pf"]["vf-bars"] == vf["bars"]
    assert vf["vf"].items() >= {"pf": NIC, "index": 1}.items() and "driver" not in vf
    assert seen[NVME]["pf"]["total-vfs"] == 2
    assert pf["pcie-link"] == {"speed": "2.5 GT/s PCIe", "width": "1",
                               "max-speed": "2.5 GT/s PCIe", "max-width": "1"}
    # Its vectors are as many as QEMU gives to a VF, for ever.
    assert vf["msix"] == 3 and "vf-total-msix" not in pf["pf"]
    assert vf["iommu-group"]["viable"] and len(vf["iommu-group"]["members"]) == 1
    assert [hop["isolates"] for hop in vf["acs"]] == [True, True]
    # People see the same.
    table = lab.vf("list").out
    assert all(address in table for address in seen)


# ---- Create and destroy ----

@pytest.mark.parametrize("arguments, words", [
    ((NIC, 8), "7"),
    (("0000:09:00.0", 1), "0000:09:00.0"),
    ((CROWD[1], 1), "is no PF"),
    (("nonsense", 1), "nonsense"),
])
def test_what_cannot_be_created_is_refused(lab, nic, arguments, words):
    result = lab.vf("create", *arguments, check=False)
    assert result.status in (1, 2)
    assert words in result.err
    assert lab.read(f"/sys/bus/pci/devices/{NIC}/sriov_numvfs") == "0"


def test_vfs_are_made_and_taken_away(lab, nic):
    # VFs of a PF that is down would make up addresses of their own.
    lab.run(f"ip link set {lab.netdev(nic)} down")
    lab.vf("create", nic, 3)
    assert ",UP" in lab.run(f"ip link show {lab.netdev(nic)}").out
    assert [lab.driver(a) for a in NIC_VFS] == ["igbvf"] * 3
    # Again is no change; another number goes through none, and only if told to.
    lab.vf("create", nic, 3)
    refused = lab.vf("create", nic, 2, check=False)
    assert refused.status == 1 and "--replace" in refused.err
    lab.vf("create", nic, 2, "--replace", "--driver", "none")
    assert [lab.driver(a) for a in NIC_VFS[:2]] == ["", ""]
    assert lab.read(f"/sys/bus/pci/devices/{nic}/sriov_drivers_autoprobe") == "1"
    lab.vf("destroy", nic)
    assert lab.read(f"/sys/bus/pci/devices/{nic}/sriov_numvfs") == "0"


# ---- Configure ----

def test_a_vf_is_configured_and_read_back(lab, vfs):
    lab.vf("set", vfs[0], f"mac={MACS[0]}", "vlan=100", "qos=3", "spoofchk=off", "trust=on")
    line = re.search(r"vf 0 .*", lab.run(f"ip link show {lab.netdev(NIC)}").out).group(0)
    assert MACS[0] in line and "vlan 100, qos 3" in line
    assert "spoof checking off" in line and "trust on" in line
    assert functions(lab)[vfs[0]]["vf"]["conf"]["vlan"] == 100


@pytest.mark.parametrize("setting", ["proto=802.1ad", "state=enable", "query-rss=on"])
def test_what_the_driver_refuses_is_said(lab, vfs, setting):
    # 802.1ad needs a VLAN to be the protocol of.
    more = ["vlan=5"] if setting.startswith("proto") else []
    result = lab.vf("set", vfs[0], setting, *more, check=False)
    assert result.status == 1
    assert setting.split("=")[0].split("-")[0] in result.err


def test_the_administrators_mac_outlives_drivers(lab, vfs):
    lab.vf("set", vfs[0], f"mac={MACS[0]}")
    lab.vf("bind", vfs[0], "igbvf")
    assert lab.mac_of(vfs[0]) == MACS[0]
    lab.vf("bind", vfs[0], "vfio-pci")
    lab.vf("bind", vfs[0], "igbvf")
    assert lab.mac_of(vfs[0]) == MACS[0]


# ---- Bind ----

def test_a_function_gets_its_driver_back(lab, nic):
    lab.vf("create", nic, 2)
    for _ in range(2):
        lab.vf("bind", NIC_VFS[0], "vfio-pci")
        assert lab.driver(NIC_VFS[0]) == "vfio-pci"
    # Its sibling is not touched, and new VFs are not vfio-pci's.
    assert lab.driver(NIC_VFS[1]) == "igbvf"
    lab.vf("unbind", NIC_VFS[0])
    assert lab.driver(NIC_VFS[0]) == "igbvf"
    assert lab.read(f"/sys/bus/pci/devices/{NIC_VFS[0]}/driver_override") == "(null)"


def test_a_mounted_disk_is_not_taken(lab, nvme):
    lab.run("mkdir -p /run/mnt; d=$(ls /dev/nvme?n1); mke2fs -qF $d && mount $d /run/mnt")
    try:
        refused = lab.vf("bind", nvme, "vfio-pci", check=False)
        assert refused.status == 1 and "/run/mnt" in refused.err
        assert lab.driver(nvme) == "nvme"
    finally:
        lab.run("umount /run/mnt")


@pytest.mark.parametrize("use, words", [
    # A namespace that is shared is no device of the controller: its subsystem's.
    ("exec 3<$(ls /dev/nvme?n1)", r"process \d+ \(sh\) has \S*/dev/nvme\dn1 open"),
    ("exec 3<$(ls /dev/ng?n1)", r"process \d+ \(sh\) has \S*/dev/ng\dn1 open"),
    ("exec 3</dev/mine", r"process \d+ \(sh\) has \S*/dev/mine open"),
    ("mount $(ls /dev/nvme?n1) /run/mnt", r"/dev/nvme\dn1 is in use by the kernel"),
], ids=["open", "passthrough", "other-name", "other-namespace"])
def test_a_disk_in_use_is_not_taken(lab, nvme, use, words):
    lab.run("mkdir -p /run/mnt; d=$(ls /dev/nvme?n1); mke2fs -qF $d; rm -f /dev/mine; "
            "mknod /dev/mine b $(stat -c '0x%t 0x%T' $d)")
    user = lab.begin(f"unshare -m sh -c '{use}; echo $$ >/run/user; "
                     "while [ -e /run/user ]; do sleep 0.1; done'")
    lab.wait_path("/run/user")
    try:
        refused = lab.vf("bind", nvme, "vfio-pci", check=False)
        assert refused.status == 1 and re.search(words, refused.err), refused
        assert lab.driver(nvme) == "nvme"
    finally:
        lab.run("rm -f /run/user /dev/mine")
        lab.finish(user)
    lab.vf("bind", nvme, "vfio-pci")
    lab.vf("unbind", nvme)


def test_a_device_with_an_address_is_not_taken(lab, nic):
    netdev = lab.netdev(nic)
    lab.run(f"ip address add 192.0.2.1/24 dev {netdev}")
    try:
        refused = lab.vf("bind", nic, "vfio-pci", check=False)
        assert refused.status == 1 and "192.0.2.1" in refused.err
        assert lab.driver(nic) == "igb"
    finally:
        lab.run(f"ip address del 192.0.2.1/24 dev {netdev}")


def test_a_crowded_group_is_explained(lab):
    """Two cards and their bridge: one cannot go while the host uses the other,
    and the host cannot take one back while the other is used."""
    bound = lab.vf("bind", CROWD[1], "vfio-pci")
    assert "cannot be handed over yet" in bound.err and CROWD[2] in bound.err
    group = lab.vf("show", CROWD[1], "--json").json["iommu-group"]
    assert {m["address"]: m["state"] for m in group["members"]} == {
        CROWD[0]: "unbound", CROWD[1]: "vfio", CROWD[2]: "blocks"}
    for interface in lab.interfaces():
        refused = lab.vf("probe", CROWD[1], "--backend", interface, check=False)
        assert refused.status == 1
        assert f"{CROWD[2]} is in use by the host's driver e1000" in refused.out
    lab.run(f"echo {CROWD[2]} >/sys/bus/pci/drivers/e1000/unbind")
    try:
        # A conventional device: INTx and no MSI-X.
        report = lab.vf("probe", CROWD[1], "--json").json
        assert [s["kind"] for s in report["steps"] if s["step"] == "interrupt"] == ["intx"]
        lab.vf("unbind", CROWD[1])
    finally:
        lab.run(f"echo {CROWD[2]} >/sys/bus/pci/drivers/e1000/bind")
    assert lab.driver(CROWD[1]) == "e1000"


# ---- Claim, hand over, release ----

@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_a_vf_is_claimed_proved_and_released(lab, vfs, interface):
    lab.need(interface)
    address = lab.vf("claim", "--owner", "vm1", "--pf", NIC, f"mac={MACS[0]}", "vlan=7").out.strip()
    assert address in vfs
    seen = functions(lab)[address]
    assert seen["claim"] == {"state": "held", "owner": "vm1"}
    assert seen["driver"] == "vfio-pci"
    # Nobody else gets it, or takes it away.
    refused = lab.vf("claim", address, "--owner", "vm2", check=False)
    assert refused.status == 1 and "vm1" in refused.err
    refused = lab.vf("release", address, "--owner", "vm2", check=False)
    assert refused.status == 1 and "vm1" in refused.err
    refused = lab.vf("destroy", NIC, check=False)
    assert refused.status == 1 and "vm1" in refused.err
    refused = lab.vf("probe", address, "--backend", interface, check=False)
    assert refused.status == 1 and "--owner=vm1" in refused.err
    report = lab.vf("probe", address, "--owner", "vm1", "--backend", interface, "--json").json
    assert report["ok"] and report["backend"] == interface
    lab.vf("release", address, "--owner", "vm1")
    seen = functions(lab)[address]
    assert "claim" not in seen and "driver" not in seen
    assert seen["vf"]["conf"]["vlan"] == 0 and seen["vf"]["conf"]["mac"] != MACS[0]


def test_an_nvme_vf_is_handed_over(lab, nvme):
    lab.vf("create", nvme, 2, "--driver", "none")
    lab.nvme_online(1)
    for interface in lab.interfaces():
        address = lab.vf("claim", NVME_VFS[0], "--owner", "vm1").out.strip()
        report = lab.vf("probe", address, "--owner", "vm1", "--backend", interface, "--json").json
        steps = {s["step"]: s for s in report["steps"]}
        # Its capabilities register: at least two entries a queue.
        assert int(steps["bar"]["word"], 16) & 0xffff > 0
        assert report["ok"]
        lab.vf("release", address, "--owner", "vm1")


def test_the_last_vf_goes_to_one_of_two(lab, vfs):
    lab.vf("claim", vfs[0], "--owner", "first")
    both = [lab.begin(lab.vf_command("claim", "--pf", NIC, "--owner", owner))
            for owner in ("left", "right")]
    ended = [lab.finish(number) for number in both]
    winners = [r for r in ended if r.status == 0]
    assert len(winners) == 1 and winners[0].out.strip() == vfs[1]
    loser = next(r for r in ended if r.status != 0)
    assert vfs[1] in loser.err or "claimed" in loser.err
    owner = functions(lab)[vfs[1]]["claim"]["owner"]
    assert owner in ("left", "right")
    lab.vf("release", vfs[0], "--owner", "first")
    lab.vf("release", vfs[1], "--owner", owner)


def test_claims_of_dead_processes_are_found(lab, vfs):
    lab.run(f"sleep 1000 & echo $! >/run/owner; {lab.vf_command('claim', vfs[0], '--owner', 'vm1')}"
            " --pid $(cat /run/owner)")
    assert functions(lab)[vfs[0]]["claim"]["state"] == "held"
    lab.run("kill -9 $(cat /run/owner)")
    assert functions(lab)[vfs[0]]["claim"]["state"] == "stale"
    lab.vf("recover")
    assert "claim" not in functions(lab)[vfs[0]]


def test_an_ordinary_user_uses_what_was_claimed(lab, vfs):
    """No root, no capability: only the device's files are his."""
    lab.vf("claim", vfs[0], "--owner", "vm1", "--user", "nobody")
    user = "setpriv --reuid=nobody --regid=nogroup --clear-groups "
    words = ("probe", vfs[0], "--backend", "group", "--json", "--owner")
    report = lab.run(user + lab.vf_command(*words, "vm1")).json
    assert report["ok"]
    lab.vf("release", vfs[0], "--owner", "vm1")
    lab.vf("claim", vfs[0], "--owner", "vm2")
    refused = lab.run(user + lab.vf_command(*words, "vm2"), check=False)
    assert refused.status == 1 and "Permission denied" in refused.out + refused.err
    lab.vf("release", vfs[0], "--owner", "vm2")


@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_a_qemu_of_an_ordinary_user_takes_the_vf(lab, vfs, interface):
    """Started by attach, which becomes that user, with more memory than a user
    may lock; and by the user himself with what is printed for him."""
    lab.need(interface)
    lab.vf("claim", vfs[0], "--owner", "vm1", "--user", "nobody", f"mac={MACS[0]}", "vlan=10")
    machine = f"-c 'id -un; ulimit -l; {QEMU} \"$@\"' sh"
    result = lab.run(
        lab.vf_command("attach", vfs[0], "--user", "nobody", "--backend", interface, "--", "sh")
        + f" {machine} <<<{ASK}", timeout=120)
    assert result.out.startswith("nobody\nunlimited\n"), result
    assert "PCI device 8086:10ca" in result.out, result
    lab.vf("recover")
    lab.vf("claim", vfs[0], "--owner", "vm1", "--user", "nobody")
    arguments = lab.vf("attach", vfs[0]).out.strip()
    # Of cdev, only half would be his.
    assert "iommufd" not in arguments
    result = lab.run(f"ulimit -l unlimited; setpriv --reuid=nobody --regid=nogroup --clear-groups "
                     f"{QEMU} {arguments} <<<{ASK}", timeout=120)
    assert "PCI device 8086:10ca" in result.out, result
    lab.vf("release", vfs[0], "--owner", "vm1")


# ---- Somebody holds it ----

def held(lab, address, *how):
    """Start somebody who holds a VF; its number."""
    lab.run("rm -f /run/hold; mkfifo /run/hold")
    number = lab.begin(f"exec 9<>/run/hold; {HOLD} {address} {' '.join(how)} <&9")
    lab.run(f"for i in $(seq 300); do grep -q held /tmp/share/{number}.out && exit 0; "
            "sleep 0.1; done; exit 1")
    return number


def let_go(lab, number):
    lab.run("pkill -x vfio_hold")
    lab.finish(number)


@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_vfs_that_are_held_are_not_destroyed(lab, vfs, interface):
    lab.need(interface)
    lab.vf("bind", vfs[0], "vfio-pci")
    number = held(lab, vfs[0], interface)
    try:
        for command in (("destroy", NIC), ("bind", vfs[0], "igbvf"), ("unbind", vfs[0]),
                        ("create", NIC, 3, "--replace")):
            refused = lab.vf(*command, check=False, timeout=60)
            assert refused.status == 1
            assert re.search(r"vfio_hold", refused.err), refused
    finally:
        let_go(lab, number)
    lab.vf("unbind", vfs[0])


def test_a_holder_that_cannot_be_seen_is_noticed(lab, vfs):
    lab.vf("bind", vfs[0], "vfio-pci")
    number = held(lab, vfs[0], "group", "hidden")
    try:
        refused = lab.vf("destroy", NIC, check=False)
        assert refused.status == 1 and "cannot be seen" in refused.err, refused
    finally:
        let_go(lab, number)


def test_a_write_that_the_kernel_does_not_answer_is_given_up(lab, vfs):
    """Nothing tells that the VF is held. The write to sriov_numvfs hangs, and so
    does every reader of it; ringbolt-vf says so, and still lists."""
    lab.vf("bind", vfs[0], "vfio-pci")
    number = held(lab, vfs[0], "group", "hidden")
    # Not even the group's file can be tried.
    lab.run("rm /dev/vfio/[0-9]*")
    try:
        stuck = lab.vf("destroy", NIC, "--timeout", 2, check=False, timeout=60)
        assert stuck.status == 1 and "has not returned within 2000 ms" in stuck.err, stuck
        assert NVME in lab.vf("list", timeout=60).out
        again = lab.vf("create", NIC, 3, check=False, timeout=60)
        assert again.status == 1, again
    finally:
        let_go(lab, number)
    lab.wait_path(f"/sys/bus/pci/devices/{vfs[1]}", there=False)
    lab.vf("recover", timeout=60)
    assert lab.read(f"/sys/bus/pci/devices/{NIC}/sriov_numvfs") == "0"
    lab.vf("create", NIC, 2, "--driver", "none")


@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_whoever_listens_lets_go_when_the_kernel_asks(lab, vfs, interface):
    lab.need(interface)
    lab.vf("bind", vfs[0], "vfio-pci")
    number = held(lab, vfs[0], interface, "polite")
    lab.run(f"timeout 30 sh -c 'echo 0 >/sys/bus/pci/devices/{NIC}/sriov_numvfs'")
    assert lab.finish(number).status == 0


def test_vfs_of_a_pf_in_user_space_want_its_token(lab, nic):
    """As with a PF that DPDK drives: whoever opened it says who may use its VFs."""
    lab.run("echo 1 >/sys/module/vfio_pci/parameters/enable_sriov")
    lab.vf("bind", nic, "vfio-pci")
    number = held(lab, nic, "group", "plain", TOKEN)
    lab.run(f"echo 1 >/sys/bus/pci/devices/{nic}/sriov_numvfs")
    assert lab.driver(NIC_VFS[0]) == "vfio-pci"
    for words, status, said in (
            ((), 1, "wants a VF token"),
            (("--token", TOKEN.replace("0", "1")), 1, "wants another VF token"),
            (("--token", TOKEN), 0, "reset")):
        # By cdev, kernels before 6.18 neither ask for a token nor take one.
        result = lab.vf("probe", NIC_VFS[0], "--backend", "group", *words, check=False)
        assert result.status == status and said in result.out, result
    lab.run(f"echo 0 >/sys/bus/pci/devices/{nic}/sriov_numvfs")
    let_go(lab, number)
    lab.vf("unbind", nic)
    lab.run("echo 0 >/sys/module/vfio_pci/parameters/enable_sriov")
    assert lab.driver(nic) == "igb"


# ---- Use ----


@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_a_qemu_starts_with_the_printed_arguments(lab, vfs, interface):
    lab.need(interface)
    lab.vf("claim", vfs[0], "--owner", "vm1")
    arguments = lab.vf("attach", vfs[0], "--owner", "vm1", "--backend", interface).out.strip()
    assert ("iommufd" in arguments) == (interface == "cdev")
    result = lab.run(f"{QEMU} {arguments} <<<{ASK}", timeout=120)
    assert "PCI device 8086:10ca" in result.out, result
    lab.vf("release", vfs[0], "--owner", "vm1")


@pytest.mark.slow
@pytest.mark.parametrize("interface", ["group", "cdev"])
def test_a_guest_uses_the_vf_it_was_handed(lab, vfs, interface):
    """Emulation in emulation: its kernel drives the VF, by DMA and interrupts."""
    lab.need(interface)
    lab.vf("claim", vfs[0], "--owner", "vm1", f"mac={MACS[0]}")
    arguments = lab.vf("attach", vfs[0], "--owner", "vm1", "--backend", interface).out.strip()
    lab.run(f"ip address add 192.0.2.1/24 dev {lab.netdev(NIC)}")
    options = f"{guest.KERNEL_OPTIONS} test=second address=192.0.2.2/24 ping=192.0.2.1"
    result = lab.run(
        f"timeout 600 qemu-system-x86_64 -machine q35 -accel tcg -cpu max -m 192 -nodefaults "
        f"-display none -no-reboot -serial stdio {second_guest(lab)} -append '{options}' "
        f"{arguments} </dev/null", check=False, timeout=700)
    assert f"@@MAC {MACS[0]}" in result.out and "@@PINGED" in result.out, result
    assert int(re.search(r"@@INTERRUPTS (\d+)", result.out).group(1)) > 0, result
    lab.run(f"ip address del 192.0.2.1/24 dev {lab.netdev(NIC)}")
    lab.vf("release", vfs[0], "--owner", "vm1")


def test_a_program_gets_the_arguments_and_the_claim(lab, vfs):
    """attach -- PROGRAM: the claim ends with the program."""
    lab.vf("claim", vfs[0], "--owner", "vm1")
    result = lab.run(lab.vf_command("attach", vfs[0], "--owner", "vm1", "--", "echo"))
    assert vfs[0] in result.out
    assert functions(lab)[vfs[0]]["claim"]["state"] == "stale"
    lab.vf("recover")


def test_dpdk_passes_packets_through_claimed_vfs(lab, vfs):
    """Two VFs under DPDK's own driver: what one sends, the other receives."""
    words = []
    for vf, mac in zip(vfs, MACS):
        lab.vf("claim", vf, "--owner", "dpdk", f"mac={mac}")
        words.append(lab.vf("attach", vf, "--owner", "dpdk", "--format", "dpdk").out.strip())
    result = lab.run(
        "timeout -s INT 12 dpdk-testpmd --lcores '0@0,1@0' --no-huge -m 64 --file-prefix=lab "
        + " ".join(words) + " -- --forward-mode=mac --tx-first --total-num-mbufs=2048 "
        f"--eth-peer=0,{MACS[1]} --eth-peer=1,{MACS[0]} --stats-period 4 </dev/null",
        check=False, timeout=120)
    received = re.findall(r"RX-packets: (\d+) +RX-dropped", result.out)
    assert len(received) == 3 and all(int(n) > 0 for n in received), result
    for vf in vfs:
        lab.vf("release", vf, "--owner", "dpdk")


def test_ringbolt_net_takes_a_claimed_vf_as_its_uplink(lab, vfs):
    """The kernel of the PF and one behind a TAP talk through the switch and the VF."""
    net, ctl = "/tmp/build/apps/ringbolt-net", "/tmp/build/apps/ringboltctl --control=/run/net.ctl"
    uplink = f"--uplink name=up0,vf={vfs[0]},owner=net"

    def refused():
        return lab.run(f"timeout 30 {net} {uplink}", check=False)

    assert (result := refused()).status == 1 and "is not claimed" in result.err, result
    lab.vf("claim", vfs[0], "--owner", "vm1")
    assert (result := refused()).status == 1 and "is claimed by vm1" in result.err, result
    lab.vf("release", vfs[0], "--owner", "vm1")

    lab.vf("claim", vfs[0], "--owner", "net", f"mac={MACS[0]}")
    server = lab.begin(f"timeout 120 {net} --pages=small --memory=64M --control=/run/net.ctl {uplink} "
                       "--uplink 'name=host,dev=net_tap0;iface=rb0,link=up'")
    lab.run("while ! [ -S /run/net.ctl ]; do sleep 0.1; done")
    pf = lab.netdev(NIC)
    # A VF takes frames of its own address only, unless it is trusted.
    lab.run(f"ip netns add far; ip link set rb0 netns far; ip -n far link set rb0 address {MACS[0]} "
            f"up; ip -n far address add 192.0.2.2/24 dev rb0; ip address add 192.0.2.1/24 dev {pf}")
    # TCP, and back what was sent.
    (lab.share / "echo.py").write_text(ECHO)
    echo = lab.begin("timeout 60 python3 /tmp/share/echo.py serve 192.0.2.1")
    result = lab.run("timeout 60 ip netns exec far python3 /tmp/share/echo.py ask 192.0.2.1",
                     check=False)
    assert result.status == 0, f"{result}{lab.run(f'{ctl} status --json', check=False)}"
    assert lab.finish(echo).status == 0
    (port,) = lab.run(f"{ctl} status up0 --json").json["ports"]
    assert port["driver"] == "net_e1000_igb_vf" and port["devices"] == [vfs[0]]
    assert min(port["switch"]["counters"][f"{way}-frames"] for way in ("in", "out")) > 100, port
    # In use: it stays where it is, and who has it is told.
    result = lab.vf("release", vfs[0], "--owner", "net", check=False)
    assert result.status != 0 and "ringbolt-net" in result.err, result
    assert port["queues"][0]["wakes-by"] == "looking"
    lab.run("pkill -x ringbolt-net")
    assert lab.finish(server).status == 0
    lab.vf("release", vfs[0], "--owner", "net")
    lab.run(f"ip netns del far; ip address del 192.0.2.1/24 dev {pf}")


# ---- Drivers that take every setting ----

@pytest.fixture
def netdevsim(lab):
    """Make a simulated PF with so many VFs; its network device."""
    lab.need("netdevsim")
    base = "/sys/bus/netdevsim"

    def make(vfs):
        lab.run(f"echo '1 1 1' >{base}/new_device; mountpoint -q /sys/kernel/debug || "
                "mount -t debugfs debugfs /sys/kernel/debug; "
                f"echo {vfs} >/sys/kernel/debug/netdevsim/netdevsim1/max_vfs; "
                f"echo {vfs} >{base}/devices/netdevsim1/sriov_numvfs")
        return lab.run(f"ls {base}/devices/netdevsim1/net").out.strip()

    yield make
    lab.run(f"echo 1 >{base}/del_device", check=False)


@pytest.mark.parametrize("vfs", [4, 64, 200, 300])
def test_every_setting_of_a_vf(lab, netdevsim, vfs):
    """What igb refuses, and what only many VFs show."""
    result = lab.run("/tmp/build/tests/sriov/netlink_machine", netdevsim(vfs), vfs, check=False)
    print(result)
    assert result.status == 0, result


def test_the_mode_of_a_switch_and_its_representors(lab, netdevsim):
    """As devlink tells it, and as the kernel calls the ports."""
    netdevsim(3)
    device, program = "netdevsim/netdevsim1", "/tmp/build/tests/sriov/netlink_machine eswitch"
    assert lab.run(f"{program} netdevsim netdevsim1").out == "legacy\n"
    lab.run(f"devlink dev eswitch set {device} mode switchdev")
    assert lab.run(f"{program} netdevsim netdevsim1").out == "switchdev\n"
    ports = lab.run("cat /sys/class/net/*/phys_port_name 2>/dev/null", check=False).out.split()
    assert {"pf0vf0", "pf0vf1", "pf0vf2"} <= set(ports)
    assert lab.run(f"{program} netdevsim netdevsim9", check=False).status == 1


# ---- A file that says how it should be ----

PLAN = f"""
pfs:
  - pf: {NIC}
    vfs: 2
    driver: none
    vf:
      0: {{ mac: "{MACS[0]}", vlan: 10 }}
      1: {{ mac: "{MACS[1]}", trust: on, driver: vfio-pci, owners: [vm1] }}
"""


def test_a_file_is_made_true_and_stays_so(lab, nic):
    (lab.share / "plan.yaml").write_text(PLAN)
    plan = "/tmp/share/plan.yaml"
    wanted = lab.vf("diff", plan, check=False)
    assert wanted.status == 1 and "0 -> 2" in wanted.out
    lab.vf("apply", plan, "--dry-run")
    assert lab.read(f"/sys/bus/pci/devices/{NIC}/sriov_numvfs") == "0"
    lab.vf("apply", plan)
    seen = functions(lab)
    assert seen[NIC_VFS[0]]["vf"]["conf"].items() >= {"mac": MACS[0], "vlan": 10}.items()
    assert seen[NIC_VFS[1]]["vf"]["conf"]["trust"] and seen[NIC_VFS[1]]["driver"] == "vfio-pci"
    # Nothing to do the second time.
    assert lab.vf("diff", plan).out.strip() == ""
    before = lab.run("dmesg | tail -1").out
    lab.vf("apply", plan)
    assert lab.run("dmesg | tail -1").out == before
    # What somebody changes is seen and put right.
    lab.run(f"ip link set {lab.netdev(NIC)} vf 0 vlan 11")
    assert "vlan" in lab.vf("diff", plan, check=False).out
    lab.vf("apply", plan)
    assert lab.vf("diff", plan).status == 0
    refused = lab.vf("claim", NIC_VFS[1], "--owner", "vm2", check=False)
    assert refused.status == 1 and "vm1" in refused.err
    lab.vf("claim", NIC_VFS[1], "--owner", "vm1")
    lab.vf("release", NIC_VFS[1], "--owner", "vm1")


# ---- Watch ----

def test_what_happens_is_told_while_it_happens(lab, nic):
    """A life of a VF, as events."""
    # A link that has not come up yet does not go down either.
    lab.run(f"for i in $(seq 300); do grep -q 1 /sys/class/net/{lab.netdev(nic)}/carrier && exit 0; "
            "sleep 0.1; done; exit 1")
    number = lab.begin(f"exec {lab.vf_command('watch', '--json')}")
    lab.run(f"for i in $(seq 300); do grep -q watching /tmp/share/{number}.err && exit 0; "
            "sleep 0.1; done; exit 1")
    lab.vf("create", nic, 1, "--driver", "none")
    lab.vf("claim", NIC_VFS[0], "--owner", "vm1")
    lab.run(f"ip link set {lab.netdev(nic)} down")
    lab.vf("release", NIC_VFS[0], "--owner", "vm1")
    lab.vf("destroy", nic)
    last = f'"vanished","address":"{NIC_VFS[0]}"'
    lab.run(f"for i in $(seq 300); do grep -q '{last}' /tmp/share/{number}.out && break; "
            "sleep 0.1; done; pkill -x ringbolt-vf")
    result = lab.finish(number)
    events = [json.loads(line) for line in result.out.splitlines()]
    told = [(e["event"], e.get("detail")) for e in events if e.get("address") == NIC_VFS[0]]
    # Not in this order to the millisecond: they come from different places.
    assert set(told) >= {("appeared", None), ("driver", "vfio-pci"), ("claimed", "vm1"),
                         ("released", "vm1"), ("vanished", None)}, result
    assert any(word == "reset" for word, _ in told), result
    assert any(e["event"] == "link" and e["detail"] == "down" and e["address"] == nic
               for e in events), result
