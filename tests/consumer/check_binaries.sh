#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads the built files: libcumeta shows cumeta's names only; neither it nor the program needs CUDA, or loads anything
# of it at start or while it trains on the CPU; cuBLAS and cuDNN are needed by the vendor plugin alone.
#   usage: check_binaries.sh LIBRARY [PROGRAM [CUDA_PLUGIN|- [VENDOR_PLUGIN]]]
set -euo pipefail
library=$1 program=${2:-} cuda_plugin=${3:-} vendor_plugin=${4:-}
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
  # What a start costs, counted by the loader: relocations (cuBLAS and cuDNN at link time would be 360 thousand) and time.
  LD_DEBUG=statistics LD_DEBUG_OUTPUT="$work/start" "$program" --help >/dev/null
  relocations=$(cat "$work"/start.* | awk '/ number of (relative )?relocations:/ {sum += $NF} END {print sum + 0}')
  ((relocations > 0)) || fail "the loader's statistics of the program were not understood"
  ((relocations < 100000)) || fail "the program needs $relocations relocations to start"
  times=$(for _ in {1..21}; do begin=$EPOCHREALTIME; "$program" --help >/dev/null; awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f\n", 1e3 * (b - a)}'; done)
  echo "start-up: $relocations relocations, median $(sort -n <<<"$times" | sed -n 11p) ms"
fi
echo "no CUDA at start, none in a run on the CPU"

# What a file itself names, whether or not it can be found here.
needs() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
if [[ -n $cuda_plugin && $cuda_plugin != - ]]; then
  ! needs "$cuda_plugin" | grep -E 'cublas|cudnn|cudart' || fail "$(basename "$cuda_plugin") is linked with what only the vendor plugin may need"
  echo "$(basename "$cuda_plugin"): no cuBLAS, no cuDNN"
fi
if [[ -n $vendor_plugin ]]; then
  for name in cublas cudnn; do
    needs "$vendor_plugin" | grep -q "lib$name\.so\.[0-9]" || fail "$(basename "$vendor_plugin") does not need $name"
  done
  ! needs "$vendor_plugin" | grep -E 'cudart|cumeta' || fail "$(basename "$vendor_plugin") is linked with more than cuBLAS and cuDNN"
  shown=$(nm -D --defined-only "$vendor_plugin" | awk '$3 ~ /^cumeta_/ {print $3}' | sort | tr '\n' ' ')
  [[ $shown == "cumeta_open_vendor cumeta_plugin_build_id " ]] || fail "$(basename "$vendor_plugin") shows: $shown"
  echo "$(basename "$vendor_plugin"): cuBLAS and cuDNN"
fi
