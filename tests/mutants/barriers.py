# SPDX-License-Identifier: Apache-2.0
"""The barriers of CUDA sources, one at a time left out by the emulator, and whether a test of barriers.tsv notices.

A row of barriers.tsv is (file, test); a file may stand in several rows, which are tried in their order until one is red.
Barriers are found in the source; the plugin is built once, since the emulator leaves the barrier out at run time
(CUMETA_EMULATOR_WITHOUT_BARRIER, tests/emulator/left_out_barrier.cpp).
"""
import pathlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

TABLE = pathlib.Path(__file__).with_name("barriers.tsv")
CALL = re.compile(r"\b__sync(?:threads|warp)\w*\s*\(")
LEFT_OUT = re.compile(r"left out (\d+) waits")


@dataclass(frozen=True)
class Barrier:
    file: str
    line: int
    tests: tuple

    @property
    def place(self):
        return f"{self.file}:{self.line}"


def find(root, file):
    """Lines with a barrier, and what is wrong with them."""
    path = root / file
    if not path.is_file():
        return [], [f"{file}: there is no such file"]
    lines, wrong = [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        calls = CALL.findall(line.split("//", 1)[0])
        if not calls:
            continue
        lines.append(number)
        if len(calls) > 1:
            wrong.append(f"{file}:{number}: two barriers in one line cannot be told apart")
        if re.search(r"__syncthreads_", calls[0]):
            wrong.append(f"{file}:{number}: a barrier with a value cannot be left out")
    if not lines:
        wrong.append(f"{file}: has no barrier")
    return lines, wrong


def read(root, read_rows, files):
    """The barriers of `files` (all of the table's when empty), and complaints."""
    tests = {}
    for file, test in read_rows(TABLE, ["file", "test"]):
        tests.setdefault(file, []).append(test)
    barriers, wrong = [], []
    for file in files or tests:
        if file not in tests:
            wrong.append(f"{file}: {TABLE.name} names no test for it")
            continue
        lines, complaints = find(root, file)
        wrong += complaints
        barriers += [Barrier(file, line, tuple(tests[file])) for line in lines]
    return barriers, wrong


def check(run_test, barrier):
    """None when a test noticed, else why not; and a word about how."""
    reached = 0
    for test in barrier.tests:
        green, how, errors = run_test(test, {"CUMETA_EMULATOR_WITHOUT_BARRIER": barrier.place})
        if green is None:
            return how, ""
        if not green:
            return None, f"{test}: {how}"
        reached += int((LEFT_OUT.search(errors) or [0, 0])[1])
    if reached == 0:
        return f"no test comes to it: {', '.join(barrier.tests)}", ""
    return f"nobody notices ({reached} waits left out in {', '.join(barrier.tests)})", ""


def run(run_test, barriers, jobs):
    """Prints a line for each barrier; the number of those that nobody misses."""
    failures = 0
    with ThreadPoolExecutor(jobs) as pool:
        for barrier, (why, how) in zip(barriers, pool.map(lambda b: check(run_test, b), barriers)):
            failures += why is not None
            print(f"{barrier.place:55} {'RED AS IT SHOULD: ' + how if why is None else 'ERROR: ' + why}", flush=True)
    print(f"{len(barriers) - failures} of {len(barriers)} barriers are missed when they are left out", flush=True)
    return failures
