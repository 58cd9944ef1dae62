#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Static gates on the machine code of a built CUDA plugin, no GPU needed: what tools/sass_requirements.txt asks of it. That no
# kernel spills is ptxas' own error in the build presets ci and release-all-gpus.   usage: scripts/cuda_gates.sh [PRESET]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
plugin=build/${1:-ci}/lib/libcumeta_cuda.so
[[ -e $plugin ]] || { echo "cuda_gates.sh: $plugin is not there; build preset ${1:-ci} with nvcc" >&2; exit 1; }
requirements=()
while read -r requirement; do requirements+=(--require "$requirement"); done < \
  <(sed 's/#.*//; s/[[:space:]]*$//; /^$/d' tools/sass_requirements.txt)
PATH=$PATH:/usr/local/cuda/bin python3 tools/sass_report.py "$plugin" "${requirements[@]}"
