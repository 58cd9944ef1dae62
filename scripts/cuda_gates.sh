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
export PATH=$PATH:/usr/local/cuda/bin
python=python3
if ! command -v cuobjdump >/dev/null || ! command -v nvdisasm >/dev/null; then
  # A toolkit without its binary utilities: the two come as Python wheels, into the build folder.
  python=build/sass_tools/bin/python
  [[ -x $python ]] || python3 -m venv build/sass_tools
  "$python" -m pip install -q nvidia-cuda-cuobjdump==13.2.51 nvidia-cuda-nvdisasm==13.2.51 ||
    { echo "cuda_gates.sh: neither the toolkit nor pip has cuobjdump and nvdisasm" >&2; exit 1; }
fi
"$python" tools/sass_report.py "$plugin" "${requirements[@]}"
