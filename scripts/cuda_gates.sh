#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Static gates on every CUDA source, no GPU needed: ptxas reports no spill, the machine code keeps what
# tools/sass_requirements.txt asks of it.   usage: scripts/cuda_gates.sh [sm_75 sm_90 ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

architectures=("$@")
((${#architectures[@]})) || architectures=(sm_75 sm_90)
for arch in "${architectures[@]}"; do
  [[ $arch =~ ^sm_[0-9]+a?$ ]] || { echo "cuda_gates.sh: '$arch' is no architecture; say sm_90" >&2; exit 2; }
done
export PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "cuda_gates.sh: nvcc is not here; install the CUDA toolkit" >&2; exit 1; }

mapfile -t sources < <(find kernels -name '*.cu' | sort)
((${#sources[@]})) || { echo "cuda_gates.sh: no .cu file under kernels/" >&2; exit 1; }
out=build/cuda_gates
mkdir -p "$out"
rm -f "$out"/*.cubin

gate() { # architecture source: one cubin, or ptxas' complaint
  local arch=$1 source=$2 name=$2
  name=${name##*/}
  nvcc -std=c++20 -O3 -cubin -arch="$arch" -Xptxas=-warn-spills,-Werror -Werror all-warnings -lineinfo \
    -I . -I include -I build/ci/generated/include "$source" -o "$out/${name%.cu}.$arch.cubin" 2>"$out/$name.$arch.log" ||
    { echo "cuda_gates: $source for $arch:"; cat "$out/$name.$arch.log"; return 1; } >&2
}
export -f gate
export out
for arch in "${architectures[@]}"; do
  printf '%s\0' "${sources[@]}" | xargs -0 -P "${CUMETA_JOBS:-$(nproc)}" -I{} bash -c 'gate "$0" "$1"' "$arch" {}
done
echo "${#sources[@]} sources x ${#architectures[@]} architectures (${architectures[*]}): no spill, no warning"

if [[ -f tools/sass_report.py && -f tools/sass_requirements.txt ]]; then
  requirements=()
  while read -r requirement; do
    arch=${requirement##*@}
    arch=${arch%%:*}
    # What is asked of an architecture that was not compiled is not asked.
    [[ " ${architectures[*]} " == *" $arch "* || $requirement != *@* ]] && requirements+=(--require "$requirement")
  done < <(sed 's/#.*//; s/[[:space:]]*$//; /^$/d' tools/sass_requirements.txt)
  python3 tools/sass_report.py "$out"/*.cubin "${requirements[@]}"
fi
