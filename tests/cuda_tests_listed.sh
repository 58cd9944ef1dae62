#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every test program whose source or list of tests names cuda is in cuda_tests.txt, so that a machine with a GPU runs it.
#   usage: cuda_tests_listed.sh BUILD
set -uo pipefail
build=$(cd "$1" && pwd) || exit 2
words=(cli_reports_test recipe_test) # speak of cuda and open no such device: the same on every machine
failures=0
cd "$(dirname "${BASH_SOURCE[0]}")" || exit 2
fail() { echo "cuda_tests_listed.sh: $1" >&2; failures=$((failures + 1)); }

for source in *_test.cpp; do
  name=${source%.cpp}
  tests=$("$build/bin/$name" --gtest_list_tests 2>/dev/null) || { fail "$build/bin/$name cannot list its tests; build all"; continue; }
  [[ " ${words[*]} " == *" $name "* ]] && continue
  if grep -qi cuda "$source" - <<<"$tests" && ! grep -qx "$name" "$build/cuda_tests.txt"; then
    fail "$name names cuda; add it to a list of cmake/plugin_tests.cmake"
  fi
done
while read -r name; do
  [[ -e $name.cpp ]] || fail "cmake/plugin_tests.cmake names $name, and there is no $name.cpp"
done <"$build/cuda_tests.txt"
((failures == 0))
