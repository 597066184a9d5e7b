# SPDX-License-Identifier: BSD-3-Clause
"""What every comparison does with its samples: which of them count, which belong
together, how two contestants relate. A sample is a dict; "dropped" says why it
does not count, "failed" that there is nothing in it, "tag" how far apart the two
CPUs were ("any": it does not matter). A round is a list of all tries of a sample,
the last of which counts unless it was dropped."""

import sys
import time

import machine
import report

OTHERS_MAX = 0.08  # of a core


class Progress:
    """One line on standard error."""

    def __init__(self, total):
        self.total = total
        self.done = 0
        self.begin = time.monotonic()
        self.tty = sys.stderr.isatty()

    def line(self, text):
        self.done += 1
        left = (time.monotonic() - self.begin) / self.done * (self.total - self.done)
        line = f"[{self.done}/{self.total}, {int(left) // 60}:{int(left) % 60:02d} left] {text}"
        sys.stderr.write(f"\r\033[K{line}" if self.tty else line + "\n")
        sys.stderr.flush()

    def end(self):
        if self.tty:
            sys.stderr.write("\n")


def take(sample, retries, pause):
    """Tries of one sample: sample() again while it was disturbed."""
    tries = []
    for nr in range(1 + retries):
        if nr:
            machine.wait_quiet(OTHERS_MAX, pause)
        tries.append(sample())
        if "dropped" not in tries[-1] or tries[-1].get("failed"):
            break
    return tries


def judge(r, tag_before, tag_after, others):
    """Set the tag, and why a sample does not count, if it does not."""
    r["others"] = others
    r["tag"] = tag_before if tag_before == tag_after else "mixed"
    if r["tag"] == "mixed":
        r["dropped"] = "the CPUs moved apart or together"
    elif others > OTHERS_MAX:
        r["dropped"] = f"others used {others:.0%} of a core"
    return r


def counted(tries, disturbed=False):
    """The sample of a round that counts, or None. disturbed: take one that was
    dropped for what others did meanwhile rather than none."""
    good = next((s for s in reversed(tries) if "dropped" not in s), None)
    if good or not disturbed:
        return good
    return next((s for s in reversed(tries) if s.get("errors") == 0 and not s.get("failed")),
                None)


def by_tag(got, disturbed=False):
    """{tag: {contestant: {round: sample}}} from {contestant: [round]}; what has
    no distance belongs to every tag."""
    tags = sorted({s["tag"] for rounds in got.values() for t in rounds
                   if (s := counted(t, disturbed)) and s["tag"] != "any"})
    return {tag: {who: {n: s for n, t in enumerate(rounds)
                        if (s := counted(t, disturbed)) and s["tag"] in (tag, "any")}
                  for who, rounds in got.items()}
            for tag in tags}


def complete(tagged, who):
    """Every contestant has a sample under one tag at least."""
    return any(all(samples[w] for w in who) for samples in tagged.values())


def pair_ratios(a, b, key):
    """a / b of each round in which both have a sample."""
    return [key(a[n]) / key(b[n]) for n in sorted(set(a) & set(b)) if key(b[n])]


def pair_differences(a, b, key):
    return [key(a[n]) - key(b[n]) for n in sorted(set(a) & set(b))]


def lost_section(todo, got):
    """Markdown: samples that did not count. todo: cases with a table; got: of
    each case {contestant: [round]}."""
    lines = {}
    for case, g in zip(todo, got):
        for who, rounds in g.items():
            for t in rounds:
                for s in t:
                    if "dropped" in s:
                        key = (case.table, who, s["dropped"] if s.get("failed") else
                               s["dropped"].split(" used")[0])
                        lines[key] = lines.get(key, 0) + 1
    if not lines:
        return "## What was lost\n\nNothing: every sample counted.\n"
    return "## What was lost\n\nSamples that did not count (most were taken again):\n\n" + \
        report.table(["table, contestant, why", "samples"],
                     [[", ".join(k), n] for k, n in sorted(lines.items())]) + "\n"
