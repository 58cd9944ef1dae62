#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes one folder (at most 60 MB) that check.sh needs on a machine with a driver, glibc and python3: the program, plugins and the
# tests that know a GPU, for the given architecture, every library beyond glibc, recipes, golden files, and Omniglot when it is at
# hand.   usage: bench/gpu/bundle.sh [FOLDER] [ARCHITECTURE]     default: .bundle 90
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=${1:-.bundle} architecture=${2:-90} build=build/bundle limit_mb=60
[[ $architecture =~ ^[0-9]+a?$ ]] || { echo "bundle.sh: '$architecture' is no architecture; say 90" >&2; exit 2; }
[[ ! -e $folder || -e $folder/bundle.json ]] || { echo "bundle.sh: $folder exists and is no bundle; remove it or name another" >&2; exit 2; }

# RPATH (not RUNPATH): it serves libraries of libraries too, so nothing needs LD_LIBRARY_PATH.
cmake --preset release -B "$build" -DCUMETA_CUDA=ON -DCUMETA_CUDA_ARCHITECTURES="$architecture-real" -DCUMETA_TEST_ROOT=. \
  -DCUMETA_TEST_BUILD=. -DCUMETA_SHARED_CORE=ON -DCUMETA_BENCHES=ON -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=\$ORIGIN/../lib;\$ORIGIN" \
  -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags -DCMAKE_SHARED_LINKER_FLAGS=-Wl,--disable-new-dtags \
  -DCMAKE_MODULE_LINKER_FLAGS=-Wl,--disable-new-dtags
cmake --build "$build" -- -j "${CUMETA_JOBS:-$(nproc)}"

rm -rf "$folder"
mkdir -p "$folder"/{bin,lib,tests,bench}
cp "$build"/bin/cumeta "$folder/bin/"
# Tests that know nothing of a GPU stay here; cmake/plugin_tests.cmake names the others.
cp "$build/cuda_tests.txt" "$folder/"
while read -r name; do cp "$build/bin/$name" "$folder/bin/"; done <"$build/cuda_tests.txt"
cp "$build"/bin/{passes_bench,updates_bench} "$folder/bin/"
# The emulated plugin comes along too: tests of broken machines and plugins of other builds need no GPU, and run on it.
cp -a "$build"/lib/libcumeta.so* "$build"/lib/libcumeta_parts.so "$build"/lib/libcumeta_cuda*.so "$build"/lib/lib{old_plugin,foreign_library,broken_vendor}.so "$folder/lib/"
cp -r recipes "$folder/"
cp -r tests/golden "$folder/tests/"
cp -r bench/gpu "$folder/bench/"
rm -rf "$folder"/bench/gpu/__pycache__
ln -s bench/gpu/check.sh "$folder/check.sh"
find "$folder/bin" "$folder/lib" -type f -exec strip --strip-unneeded {} +

# Libraries beyond glibc, by the names that the loader asks for.
glibc='^(linux-vdso|ld-linux-[^.]*|libc|libm|libdl|libpthread|librt|libresolv|libutil|libnsl|libanl)\.so'
# cuBLAS and cuDNN stay out: check.sh looks for the machine's own.
for file in "$folder"/bin/* "$folder"/lib/*.so*; do
  [[ $file == *_vendor.so ]] || ldd "$file"
done | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u | while read -r name path; do
  [[ $name =~ $glibc || -e $folder/lib/$name ]] || cp -L "$path" "$folder/lib/$name"
done
chmod u+w "$folder"/lib/*

for home in "${CUMETA_DATA:-}" ../shared/data; do
  if [[ -n $home && -e $home/omniglot/images_background.zip ]]; then
    mkdir -p "$folder/data"
    cp -r "$home/omniglot" "$folder/data/"
    chmod -R u+w "$folder/data"
    break
  fi
done
[[ -d $folder/data ]] || echo "bundle.sh: no Omniglot in \$CUMETA_DATA or ../shared/data; its workloads will be skipped" >&2

glibc_needed=$(objdump -T "$folder"/bin/* "$folder"/lib/*.so* | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -n 1)
printf '{"commit": "%s", "architecture": "sm_%s", "nvcc": "%s", "compiler": "%s", "glibc": "%s"}\n' \
  "$(git describe --always --dirty 2>/dev/null || echo unknown)" "$architecture" \
  "$(PATH=$PATH:/usr/local/cuda/bin nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p')" "$(c++ -dumpfullversion)" \
  "${glibc_needed#GLIBC_}" >"$folder/bundle.json"

# It must run with nothing but glibc beside it: the loader may take no other library from this system.
foreign=$(for file in "$folder"/bin/*; do LD_TRACE_LOADED_OBJECTS=1 "$file"; done | awk '$2 == "=>" {print $1, $3}' | sort -u |
  while read -r name path; do [[ $name =~ $glibc || $path == *"$(basename "$folder")"/* ]] || echo "$name from $path"; done)
[[ -z $foreign ]] || { echo "bundle.sh: taken from this system: $foreign" >&2; exit 1; }
size=$(du -sm --apparent-size "$folder" | cut -f1)
echo "$folder: $size MB, $(find "$folder" -type f | wc -l) files"
((size <= limit_mb)) || { echo "bundle.sh: $size MB is more than $limit_mb" >&2; du -am --apparent-size "$folder" | sort -rn | head -n 20 >&2; exit 1; }
