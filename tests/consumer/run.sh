#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs a build to a temporary prefix, moves it, and uses it as a stranger would: find_package, pkg-config, the
# README's example, no driver, the emulated plugin.
#   usage: run.sh BUILD_FOLDER C++_COMPILER [EMULATED_PLUGIN]
set -euo pipefail
build=$1 compiler=$2 emulated=${3:-}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/cumeta-consumer.XXXXXX")
trap 'rm -rf "$work"' EXIT
say() { printf -- '-- %s\n' "$*"; }
fail() { echo "consumer: $*" >&2; exit 1; }

say "install, then move the whole tree: nothing in it may remember where it was"
cmake --install "$build" --prefix "$work/first" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
mv "$work/first" "$work/prefix"
prefix=$work/prefix
! grep -rlF -e "$root" -e "$work/first" "$prefix" --include='*.cmake' --include='*.pc' --include='*.h' ||
  fail "an installed text file names the source or first install folder"
libdir=$(dirname "$(find "$prefix" -name 'libcumeta.so')")
soname=$(readelf -d "$libdir/libcumeta.so" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
[[ $soname =~ ^libcumeta\.so\.[0-9]+$ && -e $libdir/$soname ]] || fail "soname is '$soname'"

say "the plugins lie beside the library"
for plugin in cumeta_cuda cumeta_cuda_vendor; do
  if [[ -e $build/lib/lib$plugin.so ]]; then
    [[ -e $libdir/lib$plugin.so ]] || fail "lib$plugin.so was built and is not installed"
    echo "lib$plugin.so"
  fi
done
! find "$prefix" -name '*emulated*' | grep . || fail "the emulator's plugin is a test's and must not be installed"

say "every public header stands alone"
for header in "$prefix"/include/cumeta/*.h; do
  "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only -I "$prefix/include" -x c++ - <<<"#include \"cumeta/$(basename "$header")\""
done

example=
if [[ -f $root/README.md ]]; then
  # The README's example is its first block of C++.
  awk '/^```cpp/ {inside = 1; next} /^```/ {if (inside) exit} inside' "$root/README.md" >"$work/example.cpp"
  [[ -s $work/example.cpp ]] || fail "README.md has no block of C++"
  example=$work/example.cpp
fi

say "find_package(cumeta)"
cmake -S "$here/cmake_project" -B "$work/cmake" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" \
  -DCMAKE_PREFIX_PATH="$prefix" -DEXAMPLE="$example" >"$work/configure.log" || { cat "$work/configure.log"; exit 1; }
cmake --build "$work/cmake" >"$work/build.log" || { cat "$work/build.log"; exit 1; }
"$work/cmake/stranger" cpu
"$work/cmake/stranger" reference
if [[ -n $example ]]; then
  say "the README's example"
  (cd "$work" && "$work/cmake/example")
fi

say "pkg-config"
export PKG_CONFIG_PATH=$libdir/pkgconfig
read -r -a flags < <(pkg-config --cflags --libs cumeta)
"$compiler" -std=c++20 -O1 "$here/stranger.cpp" -o "$work/by_pkg_config" "${flags[@]}"
LD_LIBRARY_PATH=$libdir "$work/by_pkg_config" cpu

if [[ -x $prefix/bin/cumeta ]]; then
  say "the installed program"
  "$prefix/bin/cumeta" --help >/dev/null
  recipe=$prefix/share/cumeta/recipes/sinusoid_maml.toml
  "$prefix/bin/cumeta" train "$recipe" --out "$work/run" --set run.updates=20 >/dev/null
  "$here/check_binaries.sh" "$libdir/libcumeta.so" "$prefix/bin/cumeta"
fi

if ldconfig -p | grep -q 'libcuda\.so\.1'; then
  say "a driver is here: not asked what happens without one"
else
  say "Device::cuda without a driver"
  env -u CUMETA_CUDA_PLUGIN "$work/cmake/stranger" cuda-absent
fi
say "Device::cuda with a plugin that is not there"
CUMETA_CUDA_PLUGIN=$work/none.so "$work/cmake/stranger" cuda-absent
if [[ -n $emulated ]]; then
  say "Device::cuda, emulated"
  CUMETA_CUDA_PLUGIN=$emulated "$work/cmake/stranger" cuda | tee "$work/emulated.txt"
  grep -q 'cuda (emulated)' "$work/emulated.txt" || fail "the result does not say cuda (emulated)"
  if [[ -x $prefix/bin/cumeta ]]; then
    CUMETA_CUDA_PLUGIN=$emulated "$prefix/bin/cumeta" train "$recipe" --device cuda --out "$work/cuda_run" --json \
      --set run.updates=4 --set run.validate_every=0 >"$work/cuda_run.json"
    grep -q '"device":"cuda (emulated)"' "$work/cuda_run.json" || fail "$(cat "$work/cuda_run.json")"
    CUMETA_CUDA_PLUGIN=$emulated "$prefix/bin/cumeta" info | grep '(emulated)' || fail "info does not list the device"
  fi
fi
say "fine"
