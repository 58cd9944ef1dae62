#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""clang-tidy with .clang-tidy's checks over the library's and the program's sources, as a build compiles them.

A file that was clean is not read again until it, a header of it, .clang-tidy or the tool changes: ~/.cache/cumeta/clang_tidy
(or below XDG_CACHE_HOME) holds a name for each clean text, the hash of all that.

  scripts/clang_tidy.py [--preset ci] [FILE...]    FILE: only these sources
"""
import argparse
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLEAN = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "cumeta" / "clang_tidy"
FOLDERS = ("src", "app", "kernels")


def sources(preset, only):
    """(path, compile command, its folder) of each source in FOLDERS that the C++ compiler sees, each once."""
    database = ROOT / "build" / preset / "compile_commands.json"
    if not database.is_file():
        sys.exit(f"clang_tidy.py: {database} is not there; configure it: cmake --preset {preset}")
    found = {}
    for entry in json.loads(database.read_text()):
        path = pathlib.Path(entry["file"])
        if path.suffix == ".cpp" and path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in FOLDERS:
            found.setdefault(path.relative_to(ROOT), (shlex.split(entry["command"]), entry["directory"]))
    absent = [name for name in only if pathlib.Path(name) not in found]
    if absent:
        sys.exit(f"clang_tidy.py: preset {preset} does not compile {', '.join(absent)}")
    return [(path, *found[path]) for path in sorted(found) if not only or str(path) in only]


def text_of(path, command, folder, tool):
    """Hash of everything that clang-tidy's word about the file depends on. Comments count: some silence a check."""
    flags = [word for word in command[1:command.index("-o")] if word != "-c"]
    done = subprocess.run([command[0], *flags, "-E", "-C", str(ROOT / path)], cwd=folder, capture_output=True)
    if done.returncode != 0:
        return None, done.stderr.decode()
    return hashlib.sha256(tool + done.stdout.replace(str(ROOT).encode(), b".")).hexdigest(), ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="ci")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("files", nargs="*", metavar="FILE", help="sources, as src/plan.cpp; all when none is named")
    arguments = parser.parse_args()
    program = shutil.which("clang-tidy-14") or shutil.which("clang-tidy")
    version = subprocess.run([program, "--version"], capture_output=True).stdout if program else b""
    if b"version 14." not in version:
        print(f"skipped: .clang-tidy is kept with clang-tidy 14, here is {version.decode().strip() or 'none'}")
        return 0
    tool = version + (ROOT / ".clang-tidy").read_bytes()
    CLEAN.mkdir(parents=True, exist_ok=True)

    def check(source):
        path, command, folder = source
        key, why = text_of(path, command, folder, tool)
        if key is None:
            return path, False, why
        if (CLEAN / key).exists():
            return path, True, ""
        done = subprocess.run([program, "--quiet", "-p", str(ROOT / "build" / arguments.preset), str(ROOT / path)],
                              capture_output=True, text=True)
        if done.returncode == 0:
            (CLEAN / key).touch()
        return path, done.returncode == 0, re.sub(r"^\d+ warnings? .*\n", "", done.stdout, flags=re.M) + done.stderr

    wrong, listed = 0, sources(arguments.preset, arguments.files)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for path, clean, output in pool.map(check, listed):
            if not clean:
                wrong += 1
                print(f"-- {path}\n{output}", flush=True)
    print(f"clang-tidy: {len(listed) - wrong} of {len(listed)} files are clean")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
