#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""ringbolt-vf's commands, on a machine with SR-IOV in a folder (tests/sriov).

The environment names the programs: RINGBOLT_VF, and VFSIM, which is the same
program with another machine.
"""

import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import unittest

VF = os.environ.get("RINGBOLT_VF", "ringbolt-vf")
SIM = os.environ.get("VFSIM", "vfsim")
PATIENCE = 60
PF, NVME = "0000:01:00.0", "0000:02:00.0"
VFS = ["0000:01:10.0", "0000:01:10.2", "0000:01:10.4"]
IOMMUFD = "iommufd-0000-01-10.0"
COMMANDS = (
    "list, show, create, destroy, set, bind, unbind, claim, attach, probe, release, reset, "
    "recover, apply, diff, watch"
)


class VfTest(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="rb-vf-"))
        self.addCleanup(shutil.rmtree, self.dir)
        self.env = {**os.environ, "VFSIM_ROOT": str(self.dir)}
        self.ok("sim-create")

    def run_vf(self, *args, program=SIM, env=None):
        return subprocess.run(
            [program, *map(str, args)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            env={**self.env, **(env or {})},
        )

    def ok(self, *args, **kwargs):
        done = self.run_vf(*args, **kwargs)
        self.assertEqual(done.returncode, 0, f"{args}: {done.stderr}")
        return done.stdout

    def refused(self, status, message, *args, **kwargs):
        done = self.run_vf(*args, **kwargs)
        self.assertEqual(done.returncode, status, done.stderr)
        self.assertIn(f"ringbolt-vf: {message}", done.stderr)
        self.assertEqual(done.stdout, "")

    def functions(self):
        return {f["address"]: f for f in json.loads(self.ok("list", "--json"))}

    def put(self, path, text=""):
        path = self.dir / path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


class Answers(VfTest):
    def test_help_names_every_command_option_and_key(self):
        text = self.ok("--help", program=VF)
        for word in COMMANDS.split(", "):
            self.assertIn(f"\n  {word} ", text)
        for option in (
            "json all owner pf cpus pid driver user replace force no-reset unsafe-no-iommu format "
            "backend dry-run token timeout state-dir log-level version help"
        ).split():
            self.assertIn(f"--{option}", text)
        for key in (
            "mac vlan qos proto spoofchk trust state min-rate max-rate query-rss msix"
        ).split():
            self.assertIn(f"\n  {key} ", text)

    def test_version(self):
        self.assertRegex(self.ok("--version", program=VF), r"^ringbolt-vf \d+\.\d+\.\d+\n$")

    def test_the_real_machine_can_be_listed(self):
        self.assertIsInstance(json.loads(self.ok("list", "--json", "--all", program=VF)), list)

    def test_output_that_cannot_be_written_is_a_failure(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([VF, "--help"], stdout=full, stderr=subprocess.DEVNULL,
                                  check=False)
        self.assertEqual(done.returncode, 1)


class WrongOptions(VfTest):
    def test_usage_errors_name_what_was_expected(self):
        for args, message in [
            ([], "expected a command, see --help"),
            (["lsit"], f"'lsit': expected a command: {COMMANDS}; did you mean 'list'?"),
            (["list", "x"], "list: expected no argument, found 1 argument(s)"),
            (["show"], "show: expected FUNCTION, found 0 argument(s)"),
            (["list", "--jsno"], "--jsno: unknown option; did you mean '--json'?"),
            (["list", "--zzz"], "--zzz: unknown option, see --help"),
            (["list", "-x"], "-x: unknown option, see --help"),
            (["list", "--json=x"], "--json=x: expected --json without a value"),
            (["list", "--json", "--json"], "--json: expected once, given twice"),
            (["list", "--owner", "x"], "--owner: list does not have this option"),
            (["list", "--", "x"], "'--': list runs no other program"),
            (["claim"], "claim: --owner is missing, see --help"),
            (["claim", "--owner"], "--owner: expected a value"),
            (["claim", "--owner", "a b"], "'a b': expected the name of an owner"),
            (["claim", "--owner", "x", "vlan=4095"], "claim: vlan=4095: expected a whole number "
             "from 0 to 4094"),
            (["claim", "--owner", "x", "vlna=1"], "claim: 'vlna': unknown key, expected one of "),
            (["claim", "--owner", "x", "eth0/0", "y"], "claim: 'y': expected KEY=VALUE"),
            (["claim", "--owner", "x", "--cpus", "1-"], "'1-': expected a list of CPUs"),
            (["claim", "--owner", "x", "--pid", "0"], "--pid: '0': expected a whole number from 1"),
            (["claim", "--owner", "x", "--user", "no such"], "--user: 'no such': expected USER"),
            (["set", "eth0"], "set: expected VF KEY=VALUE..., found 1 argument(s)"),
            (["set", "eth0", "mac=1"], "set: mac=1: expected an Ethernet address"),
            (["set", "eth0", "vlan=1", "vlan=2"], "set: vlan=2: the key is given twice"),
            (["create", "eth0", "many"], "create: 'many': expected a whole number from 1 to 65535"),
            (["create", "eth0", "0"], "create: '0': expected a whole number from 1"),
            (["create", "eth0", "2", "mac=02:00:00:00:00:01"], "create: mac=: expected for one VF"),
            (["bind", "eth0", "../x"], "'../x': expected the name of a driver"),
            (["release", "eth0"], "release: expected --owner=NAME of the claim, or --force"),
            (["attach", "eth0", "--format", "qmeu"], "--format: 'qmeu': expected one of qemu, "
             "libvirt, cloud-hypervisor, dpdk; did you mean 'qemu'?"),
            (["attach", "eth0", "--backend", "x"], "--backend: 'x': expected one of auto, group, "
             "cdev"),
            (["probe", "eth0", "--token", "1234"], "--token: expected a UUID"),
            (["destroy", "eth0", "--timeout", "0"], "--timeout: '0': expected a whole number from "
             "1 to 86400"),
            (["list", "--log-level", "loud"], "--log-level: 'loud': expected one of error,"),
            (["show", "a/b"], "'a/b': expected the address of a PCI function"),
        ]:
            with self.subTest(args=args):
                self.refused(2, message, *args)

    def test_a_token_is_not_repeated(self):
        self.assertNotIn("s3cret", self.run_vf("probe", "eth0", "--token", "s3cret").stderr)

    def test_failures_are_no_usage_errors(self):
        for args, message in [
            (["show", "0000:09:00.0"], "0000:09:00.0: no such PCI function"),
            (["create", "0000:00:01.0", "1"], "0000:00:01.0: is no PF"),
            (["create", "eth0", "8"], f"{PF}: expected at most 7 VFs, found 8"),
            (["claim", "--owner", "x", "--pf", "eth0"], "there is no VF of eth0"),
            (["unbind", "eth0"], f"{PF}: has not been bound by this program"),
            (["apply", "/nowhere/x"], "/nowhere/x: No such file or directory"),
        ]:
            with self.subTest(args=args):
                self.refused(1, message, *args)


class Life(VfTest):
    def test_from_a_pf_to_a_vm_and_back(self):
        self.ok("create", "eth0", 2)
        address = self.ok("claim", "--owner", "vm1", "--pf", "eth0", "mac=02:00:00:00:00:01",
                          "vlan=7").strip()
        self.assertEqual(address, VFS[0])
        seen = self.functions()[address]
        self.assertEqual(seen["claim"], {"state": "held", "owner": "vm1"})
        self.assertEqual(seen["driver"], "vfio-pci")
        self.assertEqual(seen["vf"]["conf"]["vlan"], 7)
        self.assertEqual(self.ok("attach", address), f"-device vfio-pci,host={address}\n")
        self.refused(1, f"{address}: this VF is in use", "destroy", "eth0")
        self.refused(1, f"{address}: is claimed by vm1, not by vm2", "release", address, "--owner",
                     "vm2")
        self.ok("release", address, "--owner", "vm1")
        self.assertEqual(self.functions()[address]["driver"], "igbvf")
        self.ok("destroy", "eth0")
        self.assertEqual(set(self.functions()), {PF, NVME})

    def test_new_vfs_are_configured_before_they_have_a_driver(self):
        self.ok("create", "eth0", 2, "vlan=30", "trust=on")
        for address in VFS[:2]:
            self.assertEqual(self.functions()[address]["vf"]["conf"]["vlan"], 30)
        self.refused(2, "create: it has that many VFs already", "create", "eth0", 2, "vlan=31")

    def test_a_driver_is_not_ignored_because_the_vfs_are_there(self):
        self.ok("create", "eth0", 2, "--driver", "vfio-pci")
        self.ok("create", "eth0", 2, "--driver", "vfio-pci")
        self.ok("create", "eth0", 2)
        self.ok("unbind", VFS[1])
        done = self.run_vf("create", "eth0", 2, "--driver", "vfio-pci")
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"it has that many VFs already, and {VFS[1]} has driver none: bind gives",
                      done.stderr)

    def test_a_vf_is_attached_in_many_words(self):
        self.put("/dev/iommu")
        self.ok("create", "eth0", 1)
        self.refused(1, f"{VFS[0]}: is not claimed", "attach", "eth0/0")
        self.ok("claim", "--owner", "vm1")
        for args, words in [
            (["--backend", "group"], f"-device vfio-pci,host={VFS[0]}\n"),
            (["--backend", "cdev"], f"-object iommufd,id={IOMMUFD} "
             f"-device vfio-pci,host={VFS[0]},iommufd={IOMMUFD}\n"),
            (["--format", "dpdk"], f"--allow={VFS[0]}\n"),
            (["--format", "cloud-hypervisor"], "--platform iommufd=on "
             f"--device path=/sys/bus/pci/devices/{VFS[0]}/\n"),
            (["--format", "libvirt", "--backend", "group"],
             "<hostdev mode='subsystem' type='pci' managed='no'>\n  <source>\n"
             "    <address domain='0x0000' bus='0x01' slot='0x10' function='0x0'/>\n"
             "  </source>\n</hostdev>\n"),
        ]:
            with self.subTest(args=args):
                self.assertEqual(self.ok("attach", "eth0/0", *args), words)
        told = json.loads(self.ok("attach", "eth0/0", "--json"))
        self.assertEqual(told["files"], ["/dev/iommu", "/dev/vfio/devices/vfio120"])
        self.refused(1, f"{VFS[0]}: DPDK takes a device by its group only", "attach", "eth0/0",
                     "--format", "dpdk", "--backend", "cdev")
        self.refused(1, f"{VFS[0]}: is claimed by vm1, not by vm2", "attach", "eth0/0", "--owner",
                     "vm2")
        self.refused(2, "attach: '--'", "attach", "eth0/0", "--format", "libvirt", "--", "true")

    def test_several_vfs_are_attached_to_one_program(self):
        self.put("/dev/iommu")
        self.ok("create", "eth0", 3)
        for index, owner in enumerate(["vm1", "vm1", "vm2"]):
            self.ok("claim", f"eth0/{index}", "--owner", owner)
        paths = [f"/sys/bus/pci/devices/{address}/" for address in VFS]
        for args, words in [
            (["--backend", "cdev"], f"-object iommufd,id={IOMMUFD} "
             f"-device vfio-pci,host={VFS[0]},iommufd={IOMMUFD} "
             f"-device vfio-pci,host={VFS[1]},iommufd={IOMMUFD}\n"),
            (["--backend", "group"],
             f"-device vfio-pci,host={VFS[0]} -device vfio-pci,host={VFS[1]}\n"),
            (["--format", "dpdk"], f"--allow={VFS[0]} --allow={VFS[1]}\n"),
            # Each of its options is given once.
            (["--format", "cloud-hypervisor"], "--platform iommufd=on "
             f"--device path={paths[0]} path={paths[1]}\n"),
        ]:
            with self.subTest(args=args):
                self.assertEqual(self.ok("attach", "eth0/0", "eth0/1", *args), words)
        self.assertEqual(self.ok("attach", "eth0/0", "eth0/1", "--format", "libvirt")
                         .count("</hostdev>"), 2)
        told = json.loads(self.ok("attach", "eth0/0", "eth0/1", "--json", "--backend", "group"))
        self.assertEqual(told["files"], ["/dev/vfio/vfio", "/dev/vfio/20", "/dev/vfio/21"])
        # What is printed for two owners can stand on one command line as well.
        ids = [re.search("id=([^ ]*)", self.ok("attach", f"eth0/{i}")).group(1) for i in (0, 2)]
        self.assertNotEqual(*ids)
        self.refused(1, f"{VFS[2]}: is claimed by vm2, not by vm1", "attach", "eth0/0", "eth0/2")
        self.refused(2, f"{VFS[0]}: expected once, given twice", "attach", "eth0/0", VFS[0])
        self.ok("attach", "eth0/0", "eth0/1", "--", "true")
        for process in (self.dir / "proc").glob("[0-9]*"):
            shutil.rmtree(process)
        states = [self.functions()[address]["claim"]["state"] for address in VFS]
        self.assertEqual(states, ["stale", "stale", "held"])

    @unittest.skipIf(os.getuid(), "only root can give files to another user")
    def test_what_is_printed_can_be_used_by_its_user(self):
        iommu = self.put("/dev/iommu")
        self.put("/dev/vfio/vfio").chmod(0o666)
        self.ok("create", "eth0", 2)
        self.ok("claim", "eth0/0", "--owner", "vm1", "--user", "nobody")
        self.ok("claim", "eth0/1", "--owner", "vm1")
        by_group, by_cdev = f"-device vfio-pci,host={VFS[0]}\n", f"-object iommufd,id={IOMMUFD} "
        # Nobody but root opens /dev/iommu, whoever has the device's own file.
        self.assertEqual(self.ok("attach", "eth0/0"), by_group)
        self.assertEqual(self.ok("attach", "eth0/0", "--user", "nobody"), by_group)
        self.assertTrue(self.ok("attach", "eth0/0", "--user", "root").startswith(by_cdev))
        done = self.run_vf("attach", "eth0/0", "--backend", "cdev")
        self.assertRegex(done.stderr, "/dev/iommu: user [0-9]+, who has the VF's files, cannot")
        self.assertRegex(self.run_vf("attach", "eth0/0", "--backend", "cdev", "--user", "nobody")
                         .stderr, "/dev/iommu: user [0-9]+ cannot open it: take it by its group")
        self.assertRegex(self.run_vf("attach", "eth0/1", "--user", "nobody").stderr,
                         "/dev/vfio/21: user [0-9]+ cannot open it: claim the VF with --user")
        os.chown(iommu, 0, pwd.getpwnam("nobody").pw_gid)
        iommu.chmod(0o660)
        self.assertTrue(self.ok("attach", "eth0/0").startswith(by_cdev))

    @unittest.skipIf(os.getuid(), "only root can become another user")
    def test_a_program_of_another_user_gets_open_files(self):
        self.put("/dev/iommu").chmod(0o600)
        self.put("/dev/vfio/vfio")
        self.ok("create", "eth0", 2)
        for vf in ("eth0/0", "eth0/1"):
            self.ok("claim", vf, "--owner", "vm1")
        # Root's rights are given up by the program's start only.
        self.refused(1, "/no/such/program: No such file", "attach", "eth0/0", "eth0/1", "--user",
                     "nobody", "--", "/no/such/program")
        self.ok("recover")
        for address in VFS[:2]:
            self.assertEqual(self.functions()[address]["claim"], {"state": "held", "owner": "vm1"})
        script = ('echo "$(id -u) $(id -g)"; echo "$@"; '
                  'for f in /proc/self/fd/*; do readlink $f; done; true')
        told = self.ok("attach", "eth0/0", "eth0/1", "--user", "nobody", "--", "sh", "-c", script,
                       "sh").splitlines()
        user = pwd.getpwnam("nobody")
        self.assertEqual(told[0], f"{user.pw_uid} {user.pw_gid}")
        self.assertRegex(told[1], rf"^-object iommufd,id={IOMMUFD},fd=\d+ "
                         rf"-device vfio-pci,iommufd={IOMMUFD},fd=\d+ "
                         rf"-device vfio-pci,iommufd={IOMMUFD},fd=\d+$")
        for path in ("iommu", "vfio/devices/vfio120", "vfio/devices/vfio121"):
            self.assertIn(str(self.dir / "dev" / path), told)
        told = self.ok("attach", "eth0/0", "--owner", "vm1", "--user", "nobody", "--", "sh", "-c",
                       "grep -E '^(Uid|Gid|CapPrm|CapEff|CapAmb):' /proc/self/status")
        for name, value in re.findall(r"(.*):\s+(.*)", told):
            want = {"Uid": [str(user.pw_uid)] * 4, "Gid": [str(user.pw_gid)] * 4}
            self.assertEqual(value.split(), want.get(name, ["0" * 16]), name)
        # By the group only what the user may open himself.
        self.refused(1, "/dev/vfio/vfio: user", "attach", "eth0/0", "--user", "nobody",
                     "--backend", "group", "--", "true")

    def test_a_program_gets_the_arguments_and_the_claim(self):
        self.ok("create", "eth0", 1)
        self.ok("claim", "--owner", "vm1")
        told = self.ok("attach", "eth0/0", "--owner", "vm1", "--", "echo", "-n", "--json")
        self.assertEqual(told, f"--json -device vfio-pci,host={VFS[0]}")
        for process in (self.dir / "proc").glob("[0-9]*"):
            shutil.rmtree(process)
        claim = self.functions()[VFS[0]]["claim"]
        self.assertEqual((claim["state"], claim["owner"]), ("stale", "vm1"))
        self.ok("recover")
        self.assertNotIn("claim", self.functions()[VFS[0]])

    def test_a_program_that_does_not_exist_costs_no_claim(self):
        self.ok("create", "eth0", 1)
        self.ok("claim", "--owner", "vm1")
        self.refused(1, "/no/such/program: No such file", "attach", "eth0/0", "--",
                     "/no/such/program")
        self.ok("recover")
        claim = self.functions()[VFS[0]]["claim"]
        self.assertEqual(claim, {"state": "held", "owner": "vm1"})

    def test_tables_show_what_json_shows(self):
        self.ok("create", "eth0", 2)
        self.ok("claim", "eth0/1", "--owner", "vm1", "vlan=9")
        table = self.ok("list")
        self.assertRegex(table, rf"{PF} pf 2/7 +igb +0 +10 +eth0 +- +- +vfs\n")
        self.assertRegex(table, rf"  {VFS[1]} vf 1 +vfio-pci +0 +21 +- +vlan=9 +vm1 +claim\n")
        self.assertNotIn("0000:00:01.0", table)
        self.assertIn("0000:00:01.0", self.ok("list", "--all"))
        shown = self.ok("show", "eth0/1")
        for words in ("was driven by  igbvf", "blocked        is claimed by vm1", "1 of " + PF):
            self.assertIn(words, shown)
        self.assertEqual(json.loads(self.ok("show", "eth0/1", "--json"))["address"], VFS[1])

    def test_another_state_directory_knows_nothing(self):
        self.ok("create", "eth0", 1)
        self.ok("claim", "--owner", "vm1", "--state-dir", self.dir / "other/state")
        self.assertNotIn("claim", self.functions()[VFS[0]])
        self.assertTrue((self.dir / f"other/state/{VFS[0]}.json").exists())

    def test_only_the_owner_probes_what_is_claimed(self):
        self.ok("create", "eth0", 2)
        self.ok("claim", "eth0/0", "--owner", "vm1")
        for args in ([], ["--owner", "vm2"]):
            self.refused(1, f"{VFS[0]}: is claimed by vm1: probe opens and resets it", "probe",
                         "eth0/0", *args)
        # Those below are not of this machine: that is found by trying.
        for args in (["eth0/0", "--owner", "vm1"], ["eth0/1"]):
            report = json.loads(self.run_vf("probe", *args, "--json").stdout)
            self.assertFalse(report["ok"])

    def test_files_are_given_to_a_user(self):
        self.ok("create", "eth0", 1)
        me = f"{os.getuid()}:{os.getgid()}"
        self.ok("claim", "--owner", "vm1", "--user", me)
        self.assertEqual((self.dir / "dev/vfio/20").stat().st_mode & 0o7777, 0o600)


class Plans(VfTest):
    PLAN = "pfs:\n  - pf: eth0\n    vfs: 2\n    vf:\n      0: {vlan: 5}\n"

    def test_a_file_is_made_true(self):
        plan = self.put("vf.yaml", self.PLAN)
        done = self.run_vf("diff", plan)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn(f"+ {PF}: vfs 0 -> 2\n", done.stdout)
        self.assertIn("vfs 0 -> 2", self.ok("apply", plan, "--dry-run"))
        self.assertEqual(self.functions()[PF]["pf"]["vfs"], 0)
        changes = json.loads(self.ok("apply", plan, "--json"))
        self.assertEqual(changes[0], {"where": PF, "change": "vfs 0 -> 2", "state": "done"})
        self.assertEqual(self.ok("apply", plan), "")
        self.assertEqual(self.ok("diff", plan), "")

    def test_mistakes_have_a_line(self):
        plan = self.put("vf.yaml", self.PLAN.replace("vlan", "valn"))
        self.refused(2, f"{plan}:5: vf: 'valn': unknown key", "apply", plan)

    def test_what_cannot_be_done_is_told_and_a_failure(self):
        plan = self.put("vf.yaml", self.PLAN.replace("vfs: 2", "vfs: 9"))
        done = self.run_vf("apply", plan)
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertIn(f"! {PF}: vfs 0 -> 9: {plan}:3: vfs: {PF}: expected at most 7 VFs, found 9",
                      done.stdout)

    def test_one_pf_under_two_names_is_found_before_anything_is_done(self):
        plan = self.put("vf.yaml", self.PLAN + "  - {pf: '01:00.0', vfs: 3}\n")
        for command in (["apply"], ["diff"], ["apply", "--dry-run"]):
            self.refused(2, f"{plan}:6: pf: 01:00.0: expected once, it is {PF}, which line 2 has as "
                         "eth0", *command, plan)
        self.assertEqual(self.functions()[PF]["pf"]["vfs"], 0)


class Trouble(VfTest):
    def test_killed_anywhere_the_next_command_sets_it_right(self):
        """The whole program, a claim with everything in it. (Each step of each
        operation: tests/sriov/kill_test.c.)"""
        self.ok("create", "eth0", 1)
        claim = ["claim", "eth0/0", "--owner", "vm1", "mac=02:00:00:00:00:01", "vlan=7"]
        for n in range(1, 200, 7):
            done = self.run_vf(*claim, env={"VFSIM_KILL": str(n)})
            if done.returncode != -signal.SIGKILL:
                break
            self.ok("recover")
            seen = self.functions()[VFS[0]]
            if "claim" in seen:
                self.assertEqual(seen["claim"]["state"], "held")
                self.ok("release", "eth0/0", "--owner", "vm1")
            else:
                self.assertEqual(seen["driver"], "igbvf")
                self.assertEqual(seen["vf"]["conf"]["vlan"], 0)
        self.assertEqual(done.returncode, 0)
        self.assertGreater(n, 20)

    def test_of_two_that_race_for_the_last_one_wins(self):
        self.ok("create", "eth0", 1)
        both = [
            subprocess.Popen([SIM, "claim", "--owner", owner], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True, env=self.env)
            for owner in ("left", "right")
        ]
        ended = [(p, *p.communicate(timeout=PATIENCE)) for p in both]
        self.assertEqual(sorted(p.returncode for p, _, _ in ended), [0, 1])
        loser = next(err for p, _, err in ended if p.returncode)
        self.assertRegex(loser, rf"{VFS[0]}: not free: is claimed by (left|right)")

    def test_a_change_that_hangs_is_given_up_and_others_go_on(self):
        self.ok("create", "eth0", 2, "--driver", "vfio-pci")
        held = self.put(f"fake/held/{VFS[1]}")
        # Nothing is left that waits, not even who reads our output to its end.
        self.refused(1, f"{self.dir}/sys/bus/pci/devices/{PF}/sriov_numvfs: writing '0' has not "
                     "returned within 1000 ms", "destroy", "eth0", "--timeout", 1)
        self.assertIn(NVME, self.ok("list"))
        self.ok("create", NVME, 1)
        done = self.run_vf("create", "eth0", 3, "--replace")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is still writing '0' to", done.stderr)
        held.unlink()
        while any((self.dir / f"sys/bus/pci/devices/{PF}/virtfn{i}").is_symlink() for i in (0, 1)):
            pass
        while "is still writing" in self.run_vf("create", "eth0", 1).stderr:
            pass
        self.assertEqual(self.functions()[PF]["pf"]["vfs"], 1)

    def test_closed_standard_descriptors_are_no_files_of_sysfs(self):
        done = subprocess.run(
            ["/bin/sh", "-c", f'exec "{SIM}" create eth0 2 0<&- 1>&- 2>&-'],
            env=self.env, check=False, timeout=PATIENCE)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.functions()[PF]["pf"]["vfs"], 2)

    def test_a_process_may_be_allowed_few_descriptors(self):
        done = subprocess.run(["/bin/sh", "-c", f'ulimit -n 24; exec "{SIM}" create eth0 2'],
                              env=self.env, check=False, timeout=PATIENCE, capture_output=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_without_rights_it_says_so(self):
        if os.getuid() == 0:
            self.skipTest("root has all rights")
        done = self.run_vf("create", "eth0", 1, "--state-dir", "/run/ringbolt-vf-test")
        self.assertEqual(done.returncode, 1)
        self.assertIn("needs root", done.stderr)


class Events(VfTest):
    def test_claims_are_told_as_lines_and_json(self):
        self.ok("create", "eth0", 1)
        watchers = []
        for option in [], ["--json"]:
            p = subprocess.Popen([SIM, "watch", *option], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True, env=self.env)
            self.addCleanup(p.wait)
            self.addCleanup(p.kill)
            first = p.stderr.readline()
            if "watching" not in first:
                self.skipTest(first)
            watchers.append(p)
        self.ok("claim", "--owner", "vm1")
        self.assertRegex(watchers[0].stdout.readline(), rf"^\S+Z {VFS[0]} claimed vm1\n$")
        event = json.loads(watchers[1].stdout.readline())
        self.assertEqual((event["event"], event["address"], event["pf"], event["detail"]),
                         ("claimed", VFS[0], PF, "vm1"))
        for p in watchers:
            p.kill()
            p.communicate()


if __name__ == "__main__":
    unittest.main(verbosity=2)
