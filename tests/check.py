#!/usr/bin/env python3
"""Every test there is, in one go: what `make check` and .ci/run run.

    check.py [--slow] [STAGE...]

Stages: gcc clang asan tsan fuzz interop vm. Each prints one line with its
own sum; its full output is in build-logs/. The last line is the sum of all,
"N passed, N failed, N skipped", and the exit status is 1 if anything failed. A
stage that cannot be built counts as one failure.

Written against the standard library only, so that it runs before anything else
does. It knows no single test: meson and pytest do.

SPDX-License-Identifier: BSD-3-Clause
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
LOGS = ROOT / "build-logs"
CPUS = os.cpu_count() or 1
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
# A stage that takes longer than this hangs.
STAGE_LIMIT = 2400
FAILED = ("failure", "error")

# name -> (compiler, meson options). The fuzzer's own flags are meson.build's.
BUILDS = {
    "gcc": ("gcc", []),
    "clang": ("clang", []),
    "asan": ("gcc", ["-Db_sanitize=address,undefined"]),
    # clang, because gcc's does not know the fences of the rings at all.
    "tsan": ("clang", ["-Db_sanitize=thread", "-Db_lundef=false"]),
    "fuzz": ("clang", ["-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"]),
}
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:"
                    f"suppressions={ROOT}/tests/tsan.supp",
}


class Result:
    """Sums of one stage, and what to say about it."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.notes = []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def fail(self, note):
        self.failed += 1
        self.notes.append(f"FAILED {note}")

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def build_dir(name):
    """The ordinary build is where `make` puts it; the others are beside it."""
    plain = pathlib.Path(os.environ.get("RINGBOLT_BUILD", ROOT / "build"))
    return plain if name == "gcc" else ROOT / f"build-{name}"


def run_logged(stage, argv, limit=STAGE_LIMIT, **env):
    """Run a command with its output appended to the stage's log; its status."""
    with open(LOGS / f"{stage}.log", "ab") as log:
        log.write(f"\n$ {' '.join(map(str, argv))}\n".encode())
        log.flush()
        try:
            return subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                  timeout=limit, env={**os.environ, **env}).returncode
        except subprocess.TimeoutExpired:
            log.write(b"\ncheck: took too long, ended\n")
            return -1
        except FileNotFoundError as e:
            log.write(f"\ncheck: {e}\n".encode())
            return -1


def junit(path):
    """Sums of pytest's report. Names of failed and reasons of skipped tests."""
    result = Result()
    if not path.exists():
        result.fail(f"{path.name} was not written")
        return result
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}.{case.get('name')}".lstrip(".")
        skipped = case.find("skipped")
        if any(case.find(tag) is not None for tag in FAILED):
            result.fail(name)
        elif skipped is not None:
            result.skipped += 1
            result.notes.append(f"skipped {name}: {skipped.get('message') or 'no reason given'}")
        else:
            result.passed += 1
    return result


def inner_sums(output):
    """(passed, failed, skipped) that a test program says of its own tests, in
    the words of cmocka or of Python's unittest; None if it says nothing."""
    cmocka = {word: sum(map(int, re.findall(rf"^\[\s*{word}\s*\] (\d+) test\(s\)", output, re.M)))
              for word in ("PASSED", "FAILED", "SKIPPED")}
    if any(cmocka.values()):
        return cmocka["PASSED"], cmocka["FAILED"], cmocka["SKIPPED"]
    ran = re.search(r"^Ran (\d+) tests? in", output, re.M)
    if not ran:
        return None
    words = dict(re.findall(r"(failures|errors|skipped)=(\d+)", output))
    failed = int(words.get("failures", 0)) + int(words.get("errors", 0))
    skipped = int(words.get("skipped", 0))
    return int(ran.group(1)) - failed - skipped, failed, skipped


def meson_log(path):
    """Sums of meson's report, an object a line. Not its JUnit file, in which a
    test that ran out of time is none that failed."""
    result = Result()
    if not path.exists():
        result.fail(f"{path.name} was not written")
        return result
    for line in path.read_text().splitlines():
        test = json.loads(line)
        name = test["name"].split(" / ")[-1]
        output = (test.get("stdout") or "") + (test.get("stderr") or "")
        inner = inner_sums(output)
        if test["result"] in ("OK", "EXPECTEDFAIL"):
            passed, _, skipped = inner or (1, 0, 0)
            result.passed += passed
            result.skipped += skipped
            reasons = re.findall(r"skipped:? (.*)", output) or ["no reason given"] * skipped
            result.notes += [f"skipped {name}: {r}" for r in dict.fromkeys(reasons)]
        elif test["result"] == "SKIP":
            result.skipped += 1
            words = output.strip().splitlines()
            result.notes.append(f"skipped {name}: {words[-1] if words else 'no reason given'}")
        else:
            result.passed += inner[0] if inner else 0
            # A program that died counts, whatever it had said before.
            result.failed += max(inner[1] if inner else 1, 1)
            result.notes.append(f"FAILED {name}: {test['result'].lower()}")
    return result


def compile_stage(name):
    """Configure and build one configuration; True when it is there."""
    compiler, options = BUILDS[name]
    folder = build_dir(name)
    if not (folder / "build.ninja").exists():
        if run_logged(name, ["meson", "setup", folder, *options], CC=compiler) != 0:
            return False
    return run_logged(name, ["ninja", "-C", folder]) == 0


def unit_stage(name):
    result = Result()
    if not compile_stage(name):
        result.fail(f"{name}: does not build")
        return result
    report = build_dir(name) / "meson-logs/testlog.json"
    report.unlink(missing_ok=True)
    status = run_logged(name, ["meson", "test", "-C", build_dir(name), "--no-rebuild",
                               "--print-errorlogs", "--timeout-multiplier", "4"], **SANITIZERS)
    result = meson_log(report)
    if status != 0 and result.failed == 0:
        result.fail(f"{name}: meson test ended with status {status}")
    return result


def fuzz_one(target):
    """One fuzz target for a while, from the seeds and findings in the tree and
    from what earlier runs have found worth keeping."""
    seeds = ROOT / "tests/fuzz/corpus" / target.name
    corpus = build_dir("fuzz") / "corpus" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    argv = [target, f"-max_total_time={FUZZ_SECONDS}", "-timeout=20", "-rss_limit_mb=2048",
            "-print_final_stats=1", f"-artifact_prefix={LOGS}/{target.name}-", corpus]
    (LOGS / f"fuzz-{target.name}.log").unlink(missing_ok=True)
    return run_logged(f"fuzz-{target.name}", argv + ([seeds] if seeds.is_dir() else []),
                      **SANITIZERS)


def fuzz_stage(name):
    result = Result()
    if not (ROOT / "tests/fuzz/meson.build").exists():
        result.skipped += 1
        result.notes.append("skipped fuzz: tests/fuzz has no targets")
        return result
    if not compile_stage(name):
        result.fail("fuzz: does not build")
        return result
    targets = sorted(t for t in (build_dir(name) / "tests/fuzz").glob("*_fuzz") if t.is_file())
    if not targets:
        result.fail("fuzz: no target was built")
    with concurrent.futures.ThreadPoolExecutor(CPUS) as pool:
        for target, status in zip(targets, pool.map(fuzz_one, targets)):
            if status == 0:
                result.passed += 1
            else:
                result.fail(f"fuzz {target.name}: status {status}, see "
                            f"{LOGS.name}/fuzz-{target.name}.log")
    return result


def pytest_stage(name, slow=False):
    """The Python tests of tests/<name>, against the ordinary build."""
    result = Result()
    if not compile_stage("gcc"):
        result.fail(f"{name}: the ordinary build fails")
        return result
    run_logged(name, [sys.executable, ROOT / "tests/vm/setup/assets.py"])
    report = LOGS / f"{name}.xml"
    report.unlink(missing_ok=True)
    status = run_logged(name, ["pytest-3", "-p", "no:cacheprovider", "-v", "-rs", "--durations=10",
                               f"--junitxml={report}", *(() if slow else ("-m", "not slow")),
                               ROOT / "tests" / name], RINGBOLT_BUILD=str(build_dir("gcc")),
                        PYTHONDONTWRITEBYTECODE="1")
    result = junit(report)
    if status not in (0, 1) and result.failed == 0:
        result.fail(f"{name}: pytest ended with status {status}")
    return result


STAGES = {
    **{name: unit_stage for name in ("gcc", "clang", "asan", "tsan")},
    "fuzz": fuzz_stage,
    **{name: pytest_stage for name in ("interop", "vm")},
}
TITLES = {
    "gcc": "build and unit tests, gcc",
    "clang": "build and unit tests, clang",
    "asan": "the same with ASan and UBSan",
    "tsan": "the same with TSan",
    "fuzz": f"fuzz targets, {FUZZ_SECONDS} s each",
    "interop": "DPDK, User-mode Linux, libblkio",
    "vm": "guests in QEMU",
}


def main():
    parser = argparse.ArgumentParser(description="Run all tests.")
    parser.add_argument("--slow", action="store_true", help="every variant of the guest tests")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=" ".join(STAGES))
    args = parser.parse_args()
    for stage in args.stages:
        if stage not in STAGES:
            parser.error(f"unknown stage '{stage}'; there are: {' '.join(STAGES)}")

    LOGS.mkdir(exist_ok=True)
    total = Result()
    for stage in args.stages or STAGES:
        (LOGS / f"{stage}.log").unlink(missing_ok=True)
        start = time.monotonic()
        print(f"{TITLES[stage]:<32}", end=" ", flush=True)
        if STAGES[stage] is pytest_stage:
            result = pytest_stage(stage, args.slow)
        else:
            result = STAGES[stage](stage)
        print(f"{result}  ({time.monotonic() - start:.0f} s)", flush=True)
        for note in result.notes:
            print(f"    {note}", flush=True)
        if result.failed:
            print(f"    see {LOGS.name}/{stage}.log", flush=True)
        total.add(result)
    print(total, flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
