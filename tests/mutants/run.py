#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Plants the bugs of mutants.tsv, one at a time, and demands that each turns its test red.

A row is (name, file, from, to, test): `from` must stand in `file` exactly once; with `to` in its place the tree must
build, and the test must fail. A row that does not apply, does not build or stays green is an error, and so is a test
that is red without any mutant. Works on a copy of the tree in a temporary folder with its own build; ccache makes it
cheap. While one row's test runs, the next row is built.

  tests/mutants/run.py                      all rows
  tests/mutants/run.py --row batch_norm     rows whose name contains the text (may be given more than once)
  tests/mutants/run.py --subset             the first row of every file
  tests/mutants/run.py --shard 1/4          every fourth row, from the first
  tests/mutants/run.py --barriers [FILE...] no rows, but every barrier of the files, all files of barriers.tsv when none
  tests/mutants/run.py --list               only says what there is, and whether each row still applies

`test` is PROGRAM:FILTER of one GoogleTest program, and after it what the environment shall hold, as CUMETA_CASE=...;
SANITIZE=thread takes the program of a build with the ThreadSanitizer, DEVICE=cuda has the emulated plugin beside it.
A row in a CUDA source (.cu, .cuh, _cuda.h) or with "cuda_vendor" in its filter is built into the emulated plugin, and its
test runs with that plugin.
"""
import argparse
import collections
import csv
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import barriers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = pathlib.Path(__file__).with_name("mutants.tsv")
COLUMNS = ["name", "file", "from", "to", "test"]
TEST_SECONDS = 300
RACES = " SANITIZE=thread"
WITH_PLUGIN = " DEVICE=cuda"


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
        return self.file.endswith((".cu", ".cuh", "_cuda.h")) or "cuda_vendor" in self.test

    def mutate(self, text):
        """The file with the bug in it, or the reason why the row is stale."""
        found = text.count(self.old)
        if found != 1:
            return None, f"stale: `{self.old}` stands {found} times in {self.file}, not once"
        return text.replace(self.old, self.new), None


def read_rows(table, columns):
    with table.open(newline="") as file:
        lines = [line for line in file if line.strip() and not line.startswith("#")]
    rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if rows[0] != columns:
        sys.exit(f"{table}: the first line must be {columns}, is {rows[0]}")
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(columns):
            sys.exit(f"{table}: row {number} has {len(row)} columns, not {len(columns)}: {row}")
    return rows[1:]


def read_table():
    mutants = [Mutant(*row) for row in read_rows(TABLE, COLUMNS)]
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

    def __init__(self, tree, jobs, with_cuda, sanitizer=""):
        self.tree, self.jobs, self.with_cuda = tree, jobs, with_cuda
        # Two folders down, as a preset's build is: the compiler sees the same paths, and ccache knows most of it.
        self.folder = tree / "build" / ("mutants" + sanitizer)
        self.plugin = self.folder / "lib" / "libcumeta_cuda_emulated.so"
        self.environment = dict(os.environ, CCACHE_BASEDIR=str(tree), CCACHE_NOHASHDIR="1")
        # Tests run in the tree, so that what is compiled names no temporary folder. Emulated kernels compile five times
        # faster with -Og and run twice as slowly.
        self.check(["cmake", "-S", tree, "-B", self.folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    f"-DCUMETA_SANITIZE={sanitizer}",
                    "-DCUMETA_CUDA=OFF", "-DCUMETA_BENCHES=OFF", "-DCUMETA_EMULATED_OPTIONS=-Og",
                    f"-DCUMETA_EMULATED_CUDA={'ON' if with_cuda else 'OFF'}", "-DCUMETA_TEST_ROOT=.",
                    f"-DCUMETA_TEST_BUILD=build/{self.folder.name}"], "configuring")
        self.sanitized = None

    def check(self, command, what):
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{what} failed without any mutant:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def ninja(self, targets):
        return self.ninja_in(self.folder, targets)

    def ninja_in(self, folder, targets):
        return ["ninja", "-C", str(folder), f"-j{self.jobs}", *sorted(targets)]

    def build_all(self, tests):
        """What the tests need; those that say SANITIZE=thread have a build of their own, without a plugin."""
        plain = {test.split(":", 1)[0] for test in tests if RACES not in test}
        races = {test.split(":", 1)[0] for test in tests if RACES in test}
        if plain:
            self.check(self.ninja({*plain, *(["cumeta_cuda_emulated"] if self.with_cuda else [])}), "the build")
        if races:
            self.sanitized = Build(self.tree, self.jobs, True, "thread")
            self.check(self.ninja_in(self.sanitized.folder, races), "the build with the ThreadSanitizer")

    def build_mutant(self, mutant, number):
        """A copy of the mutant's plugin or program; or None, and the compiler's words."""
        target = "cumeta_cuda_emulated" if mutant.on_cuda else mutant.program
        done = subprocess.run(self.ninja({target}), env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            return None, done.stdout[-2000:]
        made = self.plugin if mutant.on_cuda else self.folder / "bin" / target
        return shutil.copy2(made, made.with_name(f"{number}_{made.name}")), ""

    def run_test(self, test, with_cuda, more={}, program=None, plugin=None):
        """Whether `test` is green (None: it tests nothing), a word about how, and what it said to stderr."""
        if RACES in test:
            return self.sanitized.run_test(test.replace(RACES, ""), False, more)
        with_cuda = with_cuda or WITH_PLUGIN in test
        call, *settings = test.replace(WITH_PLUGIN, "").split()
        name, _, only = call.partition(":")
        environment = {**self.environment, **dict(pair.split("=", 1) for pair in settings), **more}
        if with_cuda:
            environment |= {"CUMETA_CUDA_PLUGIN": str(plugin or self.plugin), "CUMETA_REQUIRE_CUDA": "1",
                            "CUMETA_REQUIRE_VENDOR": "1"}
        command = [program or self.folder / "bin" / name, f"--gtest_filter={only or '*'}", "--gtest_brief=1"]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=self.tree,
                                  timeout=TEST_SECONDS, errors="replace")
        except subprocess.TimeoutExpired:
            return False, "it does not end", ""
        if " ran. (" not in done.stdout:
            return False, f"it ends with {done.returncode}", done.stderr
        if done.returncode == 0 and ("[  PASSED  ] 0 tests" in done.stdout or "[  SKIPPED ]" in done.stdout):
            return None, f"{test} runs no test", done.stderr
        output = done.stdout + done.stderr
        if "DeviceUnavailable" in output or "PluginMismatch" in output:
            return None, f"{test} does not find its device:\n{output[-600:]}", done.stderr
        said = [line for line in output.splitlines()
                if "worst error" in line or "cuda emulator: kernel" in line or line.startswith("[  FAILED")]
        how = said[0].strip().removeprefix("Actual: false (")[:110] if said else f"it ends with {done.returncode}"
        return done.returncode == 0, how, done.stderr


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
    places, wrong = barriers.read(ROOT, read_rows, [])
    print(f"{len(places)} barriers in {len({b.file for b in places})} files")
    for complaint in wrong:
        print(f"{barriers.TABLE.name}: {complaint}")
    return 1 if stale or wrong else 0


def run_rows(build, mutants):
    """Builds the rows one by one and tests each behind the build of the next. The number of rows that stay green."""
    waiting, failures = collections.deque(), 0

    def finish():
        nonlocal failures
        mutant, start, result = waiting.popleft()
        why, how = result.result()
        failures += why is not None
        verdict = f"RED AS IT SHOULD: {how}" if why is None else f"ERROR: {why}"
        print(f"{mutant.name:50} {time.monotonic() - start:4.0f} s  {verdict}", flush=True)

    def test(mutant, made):
        green, how, _ = build.run_test(mutant.test, mutant.on_cuda, program=None if mutant.on_cuda else made,
                                       plugin=made if mutant.on_cuda else None)
        made.unlink()
        return (None, how) if green is False else (how if green is None else f"{mutant.test} stays green", how)

    # CUDA first: their tests need the programs as they are without any mutant.
    mutants = sorted(mutants, key=lambda m: not m.on_cuda)
    with ThreadPoolExecutor(max(1, build.jobs - 1)) as pool:
        for number, mutant in enumerate(mutants):
            while waiting and waiting[0][0].on_cuda and not mutant.on_cuda:  # those tests run programs that change now
                finish()
            start = time.monotonic()
            path = build.tree / mutant.file
            original = path.read_text() if path.is_file() else None
            text, why = mutant.mutate(original) if original is not None else (None, f"stale: no file {mutant.file}")
            made = None
            if text is not None:
                path.write_text(text)
                try:
                    made, output = build.build_mutant(mutant, number)
                finally:
                    path.write_text(original)
                why = f"does not build:\n{output}"
            waiting.append((mutant, start, pool.submit(test, mutant, made) if made else pool.submit(lambda w=why: (w, ""))))
            while len(waiting) > build.jobs:
                finish()
        while waiting:
            finish()
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", action="append", help="only rows whose name contains this text")
    parser.add_argument("--subset", action="store_true", help="only the first row of every file")
    parser.add_argument("--shard", help="I/N: every Nth row, from the Ith")
    parser.add_argument("--barriers", nargs="*", metavar="FILE", help="leave out the barriers of these CUDA sources")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="of the build")
    parser.add_argument("--list", action="store_true", help="only list the rows")
    arguments = parser.parse_args()
    mutants, places = [], []
    if arguments.barriers is None:
        mutants = selected(read_table(), arguments)
        if arguments.list:
            return list_rows(mutants)
        tests = {(m.test, m.on_cuda) for m in mutants}
    else:
        places, wrong = barriers.read(ROOT, read_rows, arguments.barriers)
        if wrong:
            sys.exit("\n".join(wrong))
        tests = {(test, True) for b in places for test in b.tests}

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cumeta-mutants-") as folder:
        tree = pathlib.Path(folder) / "tree"
        copy_tree(tree)
        build = Build(tree, arguments.jobs, any(on_cuda or WITH_PLUGIN in test for test, on_cuda in tests))
        build.build_all({test for test, _ in tests})
        print(f"built ({time.monotonic() - begin:.0f} s)", flush=True)
        with ThreadPoolExecutor(arguments.jobs) as pool:
            for (test, _), (green, how, _) in zip(sorted(tests), pool.map(lambda t: build.run_test(*t), sorted(tests))):
                if not green:
                    sys.exit(f"{test} is not green without any mutant: {how}")
        print(f"all {len(tests)} tests are green without any bug ({time.monotonic() - begin:.0f} s)", flush=True)
        if places:
            failures = barriers.run(lambda test, more: build.run_test(test, True, more), places, arguments.jobs)
        else:
            failures = run_rows(build, mutants)
            print(f"{len(mutants) - failures} of {len(mutants)} mutants turned their test red", flush=True)
    print(f"{time.monotonic() - begin:.0f} s in all")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
