#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The systemd unit of ringbolt-vf: systemd has nothing to say about it, and what
it runs does what it says. (tests/vm/test_unit.py has systemd start it.)

The environment names the unit (RINGBOLT_VF_UNIT), the program (RINGBOLT_VF) and
VFSIM, the same program with a machine of its own.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest

UNIT = pathlib.Path(os.environ["RINGBOLT_VF_UNIT"])
PLAN = "pfs:\n  - pf: eth0\n    vfs: 2\n    vf:\n      0: {vlan: 5}\n"


def commands(key):
    """What the unit runs, as lists of words."""
    return [shlex.split(words) for words in re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.M)]


class UnitTest(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="rb-unit-"))
        self.addCleanup(shutil.rmtree, self.dir)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_systemd_finds_nothing_wrong(self):
        unit = self.dir / UNIT.name
        program = commands("ExecStart")[0][0]
        # Where it will be installed there is nothing yet.
        unit.write_text(UNIT.read_text().replace(program, os.environ["RINGBOLT_VF"]))
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], check=False,
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""))

    def test_starting_and_reloading_make_the_file_true(self):
        env = {**os.environ, "VFSIM_ROOT": str(self.dir / "machine")}
        (self.dir / "machine").mkdir()
        sim = os.environ["VFSIM"]
        subprocess.run([sim, "sim-create"], env=env, check=True)
        plan = self.dir / "vf.yaml"
        for key, vlan in (("ExecStart", 5), ("ExecReload", 6)):
            plan.write_text(PLAN.replace("vlan: 5", f"vlan: {vlan}"))
            for program, *words in commands(key):
                self.assertEqual(pathlib.Path(program).name, "ringbolt-vf")
                self.assertIn("/etc/ringbolt/vf.yaml", words)
                words = [w.replace("/etc/ringbolt/vf.yaml", str(plan)) for w in words]
                subprocess.run([sim, *words], env=env, check=True)
            listed = subprocess.run([sim, "list", "--json"], env=env, check=True,
                                    capture_output=True)
            vf = next(f for f in json.loads(listed.stdout) if f.get("vf", {}).get("index") == 0)
            self.assertEqual(vf["vf"]["conf"]["vlan"], vlan)
        self.assertIn("ConditionPathExists=/etc/ringbolt/vf.yaml", UNIT.read_text())


if __name__ == "__main__":
    unittest.main(verbosity=2)
