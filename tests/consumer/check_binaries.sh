#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads the built files: libcumeta shows cumeta's names only; neither it nor the program needs CUDA, or loads anything
# of it at start or while it trains on the CPU.
#   usage: check_binaries.sh LIBRARY [PROGRAM]
set -euo pipefail
library=$1 program=${2:-}
cuda='libcuda|cudart|cublas|cudnn|nvrtc|libcumeta_cuda'
fail() { echo "binaries: $*" >&2; exit 1; }

foreign=$(nm -D -C --defined-only "$library" | cut -d' ' -f3- |
  grep -vE '^(cumeta::|(typeinfo|typeinfo name|vtable) for cumeta::)' || true)
[[ -z $foreign ]] || fail "$(basename "$library") shows names that are not cumeta's:"$'\n'"$foreign"
shown=$(nm -D -C --defined-only "$library" | grep -c ' T cumeta::')
((shown > 20)) || fail "only $shown functions are shown; the public face is gone"
echo "$(basename "$library"): $shown functions, all cumeta's"

for file in "$library" $program; do
  needed=$(ldd "$file")
  ! grep -E "$cuda" <<<"$needed" || fail "$(basename "$file") is linked with CUDA"
done
if [[ -n $program ]]; then
  work=$(mktemp -d "${TMPDIR:-/tmp}/cumeta-binaries.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  # loads WHAT ARGUMENTS...: what the loader maps during a run of the program, calls of dlopen included
  loads() {
    local what=$1
    shift
    LD_DEBUG=files LD_DEBUG_OUTPUT="$work/trace" "$program" "$@" >"$work/out" 2>&1 || fail "$what: $(cat "$work/out")"
    cat "$work"/trace.* | grep -E 'file=' || true
    rm -f "$work"/trace.*
  }
  for run in "--help" "train --device cpu --out $work/run --set run.updates=2 --set run.validate_every=0"; do
    # shellcheck disable=SC2086
    loaded=$(loads "$run" $run)
    [[ $loaded == *libcumeta.so* ]] || fail "the loader's trace of the program was not understood"
    ! grep -E "$cuda" <<<"$loaded" || fail "the program loads CUDA: $run"
  done
fi
echo "no CUDA at start, none in a run on the CPU"
