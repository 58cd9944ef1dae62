#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Reads the built files: libcumeta shows cumeta's names only; neither it nor the program needs or loads CUDA at start.
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
  loaded=$(LD_DEBUG=files "$program" --help 2>&1 >/dev/null | grep -E 'file=' || true)
  [[ $loaded == *libcumeta.so* ]] || fail "the loader's trace of the program was not understood"
  ! grep -E "$cuda" <<<"$loaded" || fail "the program loads CUDA at start"
fi
echo "no CUDA at start"
