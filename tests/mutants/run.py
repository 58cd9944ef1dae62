#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants the bugs of mutants.tsv, one at a time, and demands that each turns its test red.

A row is (name, file, from, to, test): `from` must stand in `file` exactly once; with `to` in its place the tree must
build, and the test must fail. A row that does not apply, does not build or stays green is an error, and so is a test
that is red without any mutant. Works on a copy of the tree in a temporary folder with its own build; ccache makes it
cheap.

  tests/mutants/run.py                      all rows
  tests/mutants/run.py --row batch_norm     rows whose name contains the text (may be given more than once)
  tests/mutants/run.py --subset            the first row of every file
  tests/mutants/run.py --shard 1/4          every fourth row, from the first
  tests/mutants/run.py --list               only says what there is, and whether each row still applies

`test` is PROGRAM:FILTER of one GoogleTest program. A row in a CUDA source (.cu, .cuh) is built into the emulated plugin,
and its test runs with that plugin.
"""
import argparse
import csv
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = pathlib.Path(__file__).with_name("mutants.tsv")
COLUMNS = ["name", "file", "from", "to", "test"]
TEST_SECONDS = 300


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str
    test: str

    @property
    def program(self):
        return self.test.split(":", 1)[0]

    @property
    def on_cuda(self):
        return self.file.endswith((".cu", ".cuh"))

    def mutate(self, text):
        """The file with the bug in it, or the reason why the row is stale."""
        found = text.count(self.old)
        if found != 1:
            return None, f"stale: `{self.old}` stands {found} times in {self.file}, not once"
        return text.replace(self.old, self.new), None


def read_table():
    with TABLE.open(newline="") as file:
        lines = [line for line in file if line.strip() and not line.startswith("#")]
    rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows[0] != COLUMNS:
        sys.exit(f"{TABLE}: the first line must be {COLUMNS}, is {rows[0]}")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(COLUMNS):
            sys.exit(f"{TABLE}: row {number} has {len(row)} columns, not {len(COLUMNS)}: {row}")
    mutants = [Mutant(*row) for row in rows[1:]]
    names = [m.name for m in mutants]
    if len(set(names)) != len(names):
        sys.exit(f"{TABLE}: two rows of one name: {sorted({n for n in names if names.count(n) > 1})}")
    return mutants


def copy_tree(to):
    """All files git knows or would add; a folder without git is copied but for its builds."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True)
    if listed.returncode != 0:
        shutil.copytree(ROOT, to, ignore=shutil.ignore_patterns("build*", "out", "runs", ".git"))
        return
    for name in filter(None, listed.stdout.decode().split("\0")):
        source = ROOT / name
        if source.is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, to / name)


class Build:
    """The copy and its build."""

    def __init__(self, tree, jobs, with_cuda):
        self.tree, self.jobs, self.with_cuda = tree, jobs, with_cuda
        self.environment = dict(os.environ, CCACHE_BASEDIR=str(tree), CCACHE_NOHASHDIR="1")
        plugin = tree / "build" / "lib" / "libcumeta_cuda_emulated.so"
        self.cuda_environment = dict(self.environment, CUMETA_CUDA_PLUGIN=str(plugin), CUMETA_REQUIRE_CUDA="1")
        options = ["-DCUMETA_CUDA=OFF", "-DCUMETA_BENCHES=OFF", f"-DCUMETA_EMULATED_CUDA={'ON' if with_cuda else 'OFF'}"]
        # Tests run in the tree, so that what is compiled names no temporary folder and ccache knows it again.
        options += ["-DCUMETA_TEST_ROOT=.", "-DCUMETA_TEST_BUILD=build"]
        self.check(["cmake", "-S", tree, "-B", tree / "build", "-G", "Ninja", *options], "configuring")

    def check(self, command, what):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{what} failed without any mutant:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def command(self, mutants):
        targets = sorted({m.program for m in mutants})
        if any(m.on_cuda for m in mutants):
            targets.append("cumeta_cuda_emulated")
        return ["ninja", "-C", str(self.tree / "build"), f"-j{self.jobs}", *targets]

    def builds(self, mutant):
        done = subprocess.run(self.command([mutant]), env=self.environment, capture_output=True, text=True)
        return done.returncode == 0, done.stdout[-2000:]

    def is_green(self, mutant):
        program, _, test_filter = mutant.test.partition(":")
        command = [self.tree / "build" / "bin" / program, f"--gtest_filter={test_filter or '*'}", "--gtest_brief=1"]
        environment = self.cuda_environment if mutant.on_cuda else self.environment
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.tree,
                                  timeout=TEST_SECONDS, errors="replace")
        except subprocess.TimeoutExpired:
            return False, "it does not end"
        if " ran. (" not in done.stdout:
            return False, f"it ends with {done.returncode}"
        if done.returncode == 0 and "[  PASSED  ] 0 tests" in done.stdout:
            return None, f"{mutant.test} runs no test"
        failed = [line for line in done.stdout.splitlines() if "worst error" in line or line.startswith("[  FAILED")]
        how = failed[0].strip().removeprefix("Actual: false (")[:90] if failed else f"it ends with {done.returncode}"
        return done.returncode == 0, how


def selected(mutants, arguments):
    if arguments.row:
        mutants = [m for m in mutants if any(text in m.name for text in arguments.row)]
    if arguments.subset:
        files = [m.file for m in mutants]
        mutants = [m for i, m in enumerate(mutants) if files.index(m.file) == i]
    if arguments.shard:
        index, count = map(int, arguments.shard.split("/"))
        mutants = mutants[index - 1::count]
    if not mutants:
        sys.exit("no row is selected")
    return mutants


def list_rows(mutants):
    stale = 0
    for mutant in mutants:
        path = ROOT / mutant.file
        text, why = mutant.mutate(path.read_text()) if path.is_file() else (None, f"stale: no file {mutant.file}")
        stale += text is None
        print(f"{mutant.name:45} {mutant.test:45} {why or 'applies'}")
    return 1 if stale else 0


def run_row(build, mutant):
    """None when the mutant was caught, else why not; and a word about how."""
    path = build.tree / mutant.file
    if not path.is_file():
        return f"stale: no file {mutant.file}", ""
    original = path.read_text()
    text, why = mutant.mutate(original)
    if text is None:
        return why, ""
    path.write_text(text)
    try:
        built, output = build.builds(mutant)
        if not built:
            return f"does not build:\n{output}", ""
        green, how = build.is_green(mutant)
        return (None if green is False else f"{mutant.test} stays green"), how
    finally:
        path.write_text(original)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", help="only rows whose name contains this text")
    parser.add_argument("--subset", action="store_true", help="only the first row of every file")
    parser.add_argument("--shard", help="I/N: every Nth row, from the Ith")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="of the build")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    arguments = parser.parse_args()
    mutants = selected(read_table(), arguments)
    if arguments.list:
        return list_rows(mutants)

    begin = time.monotonic()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="cumeta-mutants-") as folder:
        tree = pathlib.Path(folder) / "tree"
        copy_tree(tree)
        build = Build(tree, arguments.jobs, any(m.on_cuda for m in mutants))
        build.check(build.command(mutants), "the build")
        for test in sorted({(m.test, m.on_cuda) for m in mutants}):
            mutant = next(m for m in mutants if (m.test, m.on_cuda) == test)
            green, how = build.is_green(mutant)
            if not green:
                sys.exit(f"{mutant.test} is not green without any mutant: {how}")
        print(f"{len(mutants)} mutants; their tests are green without them ({time.monotonic() - begin:.0f} s)", flush=True)
        for mutant in mutants:
            start = time.monotonic()
            why, how = run_row(build, mutant)
            failures += why is not None
            verdict = f"RED AS IT SHOULD: {how}" if why is None else f"ERROR: {why}"
            print(f"{mutant.name:45} {time.monotonic() - start:4.0f} s  {verdict}", flush=True)
    print(f"{len(mutants) - failures} of {len(mutants)} mutants turned their test red ({time.monotonic() - begin:.0f} s)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
