#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything that must hold before a change lands; stops at the first failure; ctest speaks last.
#   scripts/test.sh            format, build with warnings as errors, gates on CUDA's machine code, the tests of
#                              tests/sanitizers.txt under Address-, UndefinedBehavior- and ThreadSanitizer, all tests
#   scripts/test.sh --quick    format, build and the fast tests (under 2 minutes on a built tree)
#   scripts/test.sh --deep     all, and clang-tidy, every mutant, every barrier, every GPU generation
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

quick=false deep=false
case "${1:-}" in
  "") ;;
  --quick) quick=true ;;
  --deep) deep=true ;;
  -h|--help) sed -n '3,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) echo "test.sh: unknown argument '$1'; it takes --quick, --deep or nothing" >&2; exit 2 ;;
esac
jobs=${CUMETA_JOBS:-$(nproc)}
preset=ci
# Paths relative to the tree, so that one clone's compilations serve the next.
export CCACHE_BASEDIR=${CCACHE_BASEDIR:-$PWD} CCACHE_NOHASHDIR=${CCACHE_NOHASHDIR:-1}

say() { printf '\n== %s  (%d s so far)\n' "$1" "$SECONDS"; }
trap '(($? == 0)) || echo "test.sh: FAILED after $SECONDS s" >&2' EXIT

check_format() {
  local tool
  tool=$(command -v clang-format-14 || command -v clang-format)
  if [[ $("$tool" --version) != *"version 14."* ]]; then
    echo "skipped: .clang-format is kept with clang-format 14, here is $("$tool" --version)"
    return
  fi
  find . -path ./build -prune -o -path './.*' -prune -o -regex '.*\.\(h\|cpp\|cu\|cuh\)' -print0 |
    xargs -0 -n 20 -P "$jobs" "$tool" --dry-run -Werror
}

build() { # preset [target...]
  local name=$1 targets=()
  shift
  (($# == 0)) || targets=(--target "$@")
  cmake --preset "$name" >"build/$name.configure.log" 2>&1 || { cat "build/$name.configure.log"; return 1; }
  cmake --build --preset "$name" "${targets[@]}" -- -j "$jobs"
}

# The tests named in tests/sanitizers.txt under one sanitizer preset: "preset test_program [gtest filter]" a line. Their
# device `cuda` is the emulated one, of the same preset.
sanitize() { # preset
  local name=$1 program filter rows=()
  mapfile -t rows < <(sed -n "s/^$name  *//p" tests/sanitizers.txt)
  ((${#rows[@]})) || { echo "test.sh: tests/sanitizers.txt has no row for $name" >&2; return 1; }
  local programs=(cumeta_cuda_emulated)
  for row in "${rows[@]}"; do programs+=("${row%% *}"); done
  build "$name" "${programs[@]}" >"build/$name.build.log" || { grep -v '^\[' "build/$name.build.log"; return 1; }
  for row in "${rows[@]}"; do
    read -r program filter <<<"$row"
    echo "-- $program ${filter:-*}"
    CUMETA_CUDA_PLUGIN="build/$name/lib/libcumeta_cuda_emulated.so" CUMETA_REQUIRE_CUDA=1 CUMETA_REQUIRE_VENDOR=1 \
      UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
      timeout 600 "build/$name/bin/$program" --gtest_brief=1 "--gtest_filter=${filter:-*}" >"build/$name.test.log" 2>&1 ||
      { tail -n 60 "build/$name.test.log"; return 1; }
    # A filter that meets no test would pass in silence.
    grep -q '^\[  PASSED  \] [1-9]' "build/$name.test.log" || { echo "test.sh: $row runs no test" >&2; return 1; }
  done
}

scripts/setup.sh
mkdir -p build
say "format"
check_format
say "build, warnings are errors"
build "$preset"

if ! $quick; then
  if command -v nvcc >/dev/null || [[ -x /usr/local/cuda/bin/nvcc ]]; then
    say "CUDA gates: the machine code of the hot loops"
    scripts/cuda_gates.sh "$preset" >build/cuda_gates.log || { grep -v '^pass' build/cuda_gates.log; exit 1; }
    tail -n 1 build/cuda_gates.log
    grep -c '^pass' build/cuda_gates.log | sed 's/$/ requirements hold/'
  else
    echo "skipped: CUDA gates, no nvcc here"
  fi
  say "asan-ubsan"
  sanitize asan-ubsan
  say "tsan"
  sanitize tsan
  if $deep; then
    say "clang-tidy"
    scripts/clang_tidy.py --preset "$preset" --jobs "$jobs"
    say "every mutant"
    python3 tests/mutants/run.py
    say "every barrier"
    python3 tests/mutants/run.py --barriers
    say "every GPU generation"
    build release-all-gpus cumeta_cuda
    scripts/cuda_gates.sh release-all-gpus >build/cuda_gates.all.log || { grep -v '^pass' build/cuda_gates.all.log; exit 1; }
    tail -n 1 build/cuda_gates.all.log
  fi
fi

say "tests"
if $quick; then
  ctest --test-dir "build/$preset" --output-on-failure -j "$jobs" --stop-on-failure -LE slow
else
  ctest --test-dir "build/$preset" --output-on-failure -j "$jobs" --stop-on-failure
fi
