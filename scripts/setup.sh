#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian packages that cumeta is built with; only what is missing, and never CUDA.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config git python3                     # tools
  libhwy-dev librandom123-dev libfmt-dev libpng-dev libzip-dev nlohmann-json3-dev  # the library
  libcli11-dev libtomlplusplus-dev                                        # the command line
  libgtest-dev libgmock-dev libbenchmark-dev libboost-context-dev         # tests, benches, the CUDA emulator
  clang-format clang-tidy
)

case "${1:-}" in
  "") ;;
  -h|--help) echo "usage: scripts/setup.sh    installs: ${packages[*]}"; exit 0 ;;
  *) echo "setup.sh: unknown argument '$1'; it takes none" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "setup.sh: this is no Debian system (no dpkg-query and apt-get); install what stands for: ${packages[*]}" >&2
  exit 1
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status} ' "$package" 2>/dev/null || true)
  [[ " $state" == *" installed "* ]] || missing+=("$package")
done

if ((${#missing[@]})); then
  as_root=()
  if [[ $(id -u) != 0 ]]; then
    command -v sudo >/dev/null || { echo "setup.sh: not root and no sudo; as root run: apt-get install ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "setup: installing ${missing[*]}"
  install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}")
  "${as_root[@]}" apt-get update -qq
  # A mirror may falter once; the second failure counts.
  "${install[@]}" >/dev/null || { sleep 5; "${as_root[@]}" apt-get update -qq; "${install[@]}"; }
else
  echo "setup: every package is there"
fi

if nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null); then
  echo "setup: nvcc found ($nvcc, $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/CUDA \1/p')): cmake --build --preset release makes the CUDA plugin too"
else
  echo "setup: nvcc not found: the CUDA plugin will not be built, everything else will"
fi
