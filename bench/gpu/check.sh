#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Settles on a machine with a GPU what no other machine can: right numbers, no race, speed beside PyTorch and JAX.
#   check.sh [--out FOLDER] [--only STEP,STEP...] [--build FOLDER] [--dry-run]
# Steps: machine selftest tests sanitizer bits bench vendor profile peers. Every part has a time limit; a failure is written
# down and the next part runs; tests and sanitizers run several at a time, what is timed runs alone. Results: check.json and check.md in --out (default: results). --only runs the steps named and
# adds them to what --out holds already. --build: programs of a build folder instead of this bundle's. --dry-run: the
# emulated plugin and small sizes; it proves this script. Exit status: 0 if nothing failed.
set -uo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)

out=results only= build=$root dry=false
while (($#)); do
  case "$1" in
    --out|--only|--build)
      (($# > 1)) || { echo "check.sh: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"; shift 2 ;;
    --dry-run) dry=true; shift ;;
    -h|--help) sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "check.sh: unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
done
known=(machine selftest tests sanitizer bits bench vendor profile peers)
for step in ${only//,/ }; do
  [[ " ${known[*]} " == *" $step "* ]] || { echo "check.sh: no step '$step'; there are: ${known[*]}" >&2; exit 2; }
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
build=$(cd "$build" && pwd) || exit 2
cd "$root" || exit 2

cumeta=$build/bin/cumeta
plugin=$build/lib/libcumeta_cuda.so
$dry && plugin=$build/lib/libcumeta_cuda_emulated.so
for file in "$cumeta" "$plugin"; do
  [[ -e $file ]] || { echo "check.sh: $file is not there; make a bundle with bench/gpu/bundle.sh" >&2; exit 2; }
done
export CUMETA_CUDA_PLUGIN=$plugin CUMETA_REQUIRE_CUDA=1
workloads=(sinusoid_k1 omniglot_k1 omniglot_k5 miniimagenet_k5)
logs=$out/parts
mkdir -p "$logs"
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
: >"$logs/failures" # a name a line, written by parts that may run beside one another
at_once=$(($(nproc) > 3 ? $(nproc) / 2 : 1))

wanted() { [[ -z $only || ,$only, == *,$1,* ]]; }
write_down() { # part status seconds note
  printf '{"part": "%s", "status": "%s", "seconds": %s, "note": "%s"}\n' "$1" "$2" "$3" "${4//[\"\\]/\'}" >"$logs/$1.status"
  printf '%-28s %-8s %7.1f s  %s\n' "$1" "$2" "$3" "$4"
}
# One part with a time limit: standard output to PART.out, errors to PART.err.
part() { # name limit command...
  local name=$1 limit=$2 start=$EPOCHREALTIME code=0 took
  shift 2
  timeout --kill-after=10 "$limit" "$@" >"$logs/$name.out" 2>"$logs/$name.err" </dev/null || code=$?
  took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.2f", b - a}')
  case $code in
    0) write_down "$name" passed "$took" "" ;;
    124|137) write_down "$name" timeout "$took" "limit $limit s" ;;
    *) write_down "$name" failed "$took" "exit status $code: $(tail -n 1 "$logs/$name.err" | tr -d '\000-\037' | cut -c1-160)" ;;
  esac
  ((code == 0)) || echo "$name" >>"$logs/failures"
  return 0
}
# The same beside others; `wait` before what is timed. No result of such a part is a time.
beside() {
  while (($(jobs -rp | wc -l) >= at_once)); do wait -n; done
  part "$@" &
}
skip() { write_down "$1" skipped 0 "$2"; }

# The data of a workload, as arguments of the command line; made of noise where none came along.
data_of() { # workload
  case $1 in
    omniglot_*)
      for folder in "${CUMETA_DATA:-$root/data}/omniglot" "$root/../shared/data/omniglot"; do
        [[ -e $folder/images_background.zip ]] && { printf '%s\n' --data "$folder"; return; }
      done ;;
    miniimagenet_*)
      [[ -d $out/noise84 ]] || python3 "$root/bench/gpu/random_images.py" "$out/noise84" 20 20 84 3
      printf '%s\n' --data "$out/noise84" ;;
  esac
}
has_data() { [[ $1 == sinusoid_* || -n $(data_of "$1") ]]; }
# Small sizes of a workload for slow tools and the dry run.
small_of() { # workload
  printf '%s\n' --set run.tasks=2
  case $1 in
    omniglot_*) printf '%s\n' --set model.filters=8 ;;
    miniimagenet_*) printf '%s\n' --set model.filters=4 --set data.query=1 --set algorithm.steps=2 --set data.height=32 --set data.width=32 ;;
  esac
}
train() { # workload updates run folder, more arguments
  local load=$1 updates=$2 run=$3 arguments
  shift 3
  mapfile -t arguments < <(data_of "$load")
  rm -rf "$run"
  "$cumeta" train "bench/gpu/$load.toml" --device cuda --out "$run" --set "run.updates=$updates" \
    --set run.validate_every=0 "${arguments[@]}" "$@"
}
same_bits() { # workload updates, more arguments
  local load=$1 updates=$2 first=$logs/bits.$1.first second=$logs/bits.$1.second compared=0 file
  shift 2
  train "$load" "$updates" "$first" "$@" && train "$load" "$updates" "$second" "$@" || return 1
  for file in "$first"/*.safetensors; do
    cmp "$file" "$second/${file##*/}" || return 1
    compared=$((compared + 1))
  done
  rm -rf "$first" "$second"
  echo "$compared files equal"
  ((compared > 0))
}
export -f train same_bits data_of
export root out logs cumeta
# A function as a part: `timeout` runs programs only.
call() { # name limit function arguments...
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" bash -c '"$@"' call "$@"
}

if wanted machine; then
  part machine.info 60 "$cumeta" info --json
  if command -v nvidia-smi >/dev/null; then
    part machine.gpu 60 nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit --format=csv
  else
    skip machine.gpu "no nvidia-smi"
  fi
fi

if wanted selftest; then part selftest 300 "$cumeta" selftest --device cuda --json; fi

if wanted tests; then
  for program in "$build"/bin/*_test; do
    [[ -x $program ]] || continue
    name=$(basename "$program")
    # The dry run shows that a program's result arrives; that all pass on the emulator is ctest's to say.
    if $dry && [[ $name != golden_test ]]; then continue; fi
    beside "test.$name" 240 "$program" --gtest_brief=1 "--gtest_output=json:$logs/test.$name.json"
  done
  wait
fi

if wanted sanitizer; then
  for tool in memcheck racecheck initcheck synccheck; do
    if ! sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || $dry; then
      skip "sanitizer.$tool" "no compute-sanitizer here"
      continue
    fi
    for load in "${workloads[@]}"; do
      [[ $load == omniglot_k5 ]] && continue
      has_data "$load" || { skip "sanitizer.$tool.$load" "no data"; continue; }
      mapfile -t small < <(small_of "$load"; data_of "$load")
      beside "sanitizer.$tool.$load" 240 "$sanitizer" --tool "$tool" --error-exitcode 9 "$cumeta" train \
        "bench/gpu/$load.toml" --device cuda --out "$logs/sanitized.$tool.$load" --set run.updates=2 --set run.validate_every=0 "${small[@]}"
    done
  done
  wait
  rm -rf "$logs"/sanitized.*
fi

if wanted bits; then
  for load in "${workloads[@]}"; do
    has_data "$load" || { skip "bits.$load" "no data"; continue; }
    small=() updates=40
    $dry && { mapfile -t small < <(small_of "$load"); updates=2; }
    call "bits.$load" 120 same_bits "$load" "$updates" "${small[@]}"
  done
fi

bench() { # part workload, more arguments
  local name=$1 load=$2 arguments
  shift 2
  has_data "$load" || { skip "$name" "no data"; return; }
  mapfile -t arguments < <(data_of "$load"; if $dry; then small_of "$load"; printf '%s\n' --rounds 1; fi)
  part "$name" 240 "$cumeta" bench "bench/gpu/$load.toml" --device cuda --json "${arguments[@]}" "$@"
}
if wanted bench; then
  for load in "${workloads[@]}"; do
    bench "bench.$load" "$load"
    $dry && [[ $load != sinusoid_k1 ]] || bench "unfused.$load" "$load" --set plan.implementation=unfused
  done
  # Layer by layer and by algorithm, steps and tasks: Google Benchmark's JSON stays in parts/.
  if [[ -x $build/bin/passes_bench ]]; then
    passes='^published/.*/cuda' updates='^(sinusoid|omniglot)/.*/steps:[15]/tasks:(32|128)/cuda'
    $dry && passes='^published/sinusoid_linear2.*/cuda' updates='^sinusoid/maml/steps:1/tasks:4/cuda'
    part bench.passes 240 "$build/bin/passes_bench" "--benchmark_filter=$passes" --benchmark_min_time=0.02 --benchmark_format=json
    part bench.updates 240 "$build/bin/updates_bench" "--benchmark_filter=$updates" --benchmark_min_time=0.1 --benchmark_format=json
  else
    skip bench.passes "built without Google Benchmark"
  fi
fi

if wanted vendor; then
  if [[ -e $build/lib/libcumeta_cuda_vendor.so ]] || $dry; then
    # cuBLAS and cuDNN of the toolkit or of Python's wheels, for these parts alone. The emulated plugin has models of its own.
    wheels=$(python3 -c 'import nvidia, pathlib; print(":".join(str(p) for r in nvidia.__path__ for p in pathlib.Path(r).glob("*/lib")))' 2>/dev/null)
    libraries=$wheels:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}
    loads=("${workloads[@]}")
    $dry && loads=(sinusoid_k1)
    LD_LIBRARY_PATH=$libraries part vendor.info 60 "$cumeta" info --json
    $dry || for name in layers_test golden_test implementation_test; do
      CUMETA_REQUIRE_VENDOR=1 LD_LIBRARY_PATH=$libraries part "vendor.$name" 240 "$build/bin/$name" --gtest_brief=1 \
        '--gtest_filter=*endor*:*Fastest*' "--gtest_output=json:$logs/vendor.$name.json"
    done
    for load in "${loads[@]}"; do
      LD_LIBRARY_PATH=$libraries bench "vendor.$load" "$load" --set plan.implementation=vendor
      LD_LIBRARY_PATH=$libraries bench "fastest.$load" "$load" --set plan.implementation=fastest
    done
  else
    skip vendor "no libcumeta_cuda_vendor.so here"
  fi
fi

if wanted profile; then
  if ! $dry && profiler=$(command -v ncu || ls /usr/local/cuda/bin/ncu 2>/dev/null); then
    metrics=gpu__time_duration.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__warps_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread,launch__grid_size
    for load in "${workloads[@]}"; do
      has_data "$load" || { skip "profile.$load" "no data"; continue; }
      mapfile -t arguments < <(data_of "$load")
      part "profile.$load" 240 "$profiler" --clock-control none --csv --page raw --metrics "$metrics" --launch-count 400 "$cumeta" train \
        "bench/gpu/$load.toml" --device cuda --out "$logs/profiled" --set run.updates=2 --set run.validate_every=0 "${arguments[@]}"
      rm -rf "$logs/profiled"
    done
  else
    skip profile "no ncu here"
  fi
fi

if wanted peers; then
  if python3 -c 'import torch' 2>/dev/null || python3 -c 'import jax' 2>/dev/null; then
    for load in "${workloads[@]}"; do
      if $dry; then
        part "peers.$load" 300 python3 bench/gpu/peers.py --workload "$load" --limit 60 --rounds 1 --device cpu --tiny
      else
        part "peers.$load" 480 python3 bench/gpu/peers.py --workload "$load" --limit 90
      fi
    done
  else
    skip peers "neither torch nor jax can be imported"
  fi
fi

rm -rf "$out/noise84"
python3 bench/gpu/report.py "$out" || echo report >>"$logs/failures"
failures=$(wc -l <"$logs/failures")
rm "$logs/failures"
echo "$out/check.json $out/check.md: $failures failed"
((failures == 0))
