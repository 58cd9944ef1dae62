#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Settles on a machine with a GPU what no other machine can: right numbers, no race, speed beside PyTorch and JAX.
#   check.sh [--out FOLDER] [--only NAME,NAME...] [--build FOLDER] [--dry-run]
# Every part has a time limit; a failure is written down and the next part runs; tests and sanitizer run several at a time,
# what is timed runs alone. Results: check.json and check.md in --out (default: results), logs in its folder parts.
# --only runs the steps or parts named and adds them to what --out holds of the same commit; without it, what --out held goes.
# --build: programs of a build folder instead of this bundle's. --dry-run: the emulated plugin and small sizes; it proves
# this script. Exit status: 0 if nothing in --out failed, 1 if something did, 2 if this command line cannot be run.
#
#   step       at most     parts, each a name for --only; so is what stands before a dot (bench.unfused: four parts)
#   machine      2 min     machine.info machine.gpu
#   selftest     5 min
#   tests        4 min *   tests.PROGRAM
#   sanitizer    4 min *   sanitizer.TOOL.WORKLOAD; TOOL: memcheck racecheck initcheck synccheck; no omniglot_k5
#   bits         8 min     bits.WORKLOAD, 2 each
#   bench       14 min     bench.WORKLOAD bench.unfused.WORKLOAD, 1 each; bench.passes bench.updates, 3 each
#   vendor      14 min     vendor.WORKLOAD vendor.fastest.WORKLOAD, 1 each; vendor.PROGRAM, 2 each
#   profile     16 min     profile.WORKLOAD, 4 each
#   peers       32 min     peers.WORKLOAD, 8 each
#   WORKLOAD: sinusoid_k1 omniglot_k1 omniglot_k5 miniimagenet_k5
#   * for each round of parts: half as many run at a time as there are cores (25 programs; 12 runs of the sanitizer)
#
# The machine needs an NVIDIA driver for CUDA 13 (580 or newer), x86-64 Linux with the glibc that bundle.json names or a newer
# one, bash, awk and python3 with its own library alone. What follows is used where it is there, and otherwise its parts are
# "skipped", with a line that says why: nvidia-smi, compute-sanitizer, cuBLAS 13 with cuDNN 9, ncu, PyTorch, JAX, Omniglot.
set -uo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)

out=results only= build=$root dry=false
while (($#)); do
  case "$1" in
    --out|--only|--build)
      (($# > 1)) || { echo "check.sh: $1 needs a value" >&2; exit 2; }
      declare "${1#--}=$2"; shift 2 ;;
    --dry-run) dry=true; shift ;;
    -h|--help) sed -n '3,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "check.sh: unknown argument '$1'; see --help" >&2; exit 2 ;;
  esac
done
known=(machine selftest tests sanitizer bits bench vendor profile peers)
[[ -z ${only//[a-z0-9_.,]/} ]] || { echo "check.sh: --only '$only': names of steps and parts between commas; see --help" >&2; exit 2; }
for name in ${only//,/ }; do
  [[ " ${known[*]} " == *" ${name%%.*} "* ]] || { echo "check.sh: no step '${name%%.*}'; there are: ${known[*]}; see --help" >&2; exit 2; }
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
build=$(cd "$build" && pwd) || exit 2
cd "$root" || exit 2

cumeta=$build/bin/cumeta
plugin=$build/lib/libcumeta_cuda.so
$dry && plugin=$build/lib/libcumeta_cuda_emulated.so
for file in "$cumeta" "$plugin" "$build/cuda_tests.txt"; do
  [[ -e $file ]] || { echo "check.sh: $file is not there; make a bundle with bench/gpu/bundle.sh" >&2; exit 2; }
done
export CUMETA_CUDA_PLUGIN=$plugin CUMETA_REQUIRE_CUDA=1
workloads=(sinusoid_k1 omniglot_k1 omniglot_k5 miniimagenet_k5)
logs=$out/parts
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
at_once=$(($(nproc) > 3 ? $(nproc) / 2 : 1))

# What the results are of. Parts of another commit, or of a dry run, never stand beside this one's.
bundle=$(cat "$root/bundle.json" 2>/dev/null || printf '{"commit": "%s"}' "$(git describe --always --dirty 2>/dev/null || echo unknown)")
run="{\"bundle\": $bundle, \"dry_run\": $dry}"
if [[ -n $(ls -A "$logs" 2>/dev/null) ]]; then
  [[ -e $logs/run.json ]] || { echo "check.sh: $logs is not this script's; name another --out" >&2; exit 2; }
  [[ -z $only || $run == "$(cat "$logs/run.json")" ]] ||
    { echo "check.sh: $out holds parts of $(cat "$logs/run.json"), this is $run; name another --out, or run all without --only" >&2; exit 2; }
fi
# What will run leaves nothing of an earlier time: neither its figures nor a step's line that it was skipped.
if [[ -z $only ]]; then
  rm -rf "$logs"
else
  for name in ${only//,/ }; do rm -rf "$logs/$name".* "$logs/${name%%.*}.status"; done
fi
rm -f "$out"/check.{json,md}
mkdir -p "$logs"
echo "$run" >"$logs/run.json"
: >"$logs/names" # of all parts met, one a line, written by parts that may run beside one another

# Whether --only has a part: by its name, or by a beginning of it that ends at a dot.
chosen() {
  local name
  for name in ${only//,/ }; do [[ $1. == "$name".* ]] && return; done
  [[ -z $only ]]
}
# The same, or a part of it.
wanted() { chosen "$1" || [[ ,$only == *,"$1".* ]]; }
status_of() { # part status seconds note
  printf '{"part": "%s", "status": "%s", "seconds": %s, "note": "%s"}\n' "$1" "$2" "$3" "${4//[\"\\]/\'}" >"$logs/$1.status"
}
write_down() { status_of "$@" && printf '%-32s %-8s %7.1f s  %s\n' "$@"; }
# One part with a time limit: standard output to PART.out, errors to PART.err.
part() { # name limit command...
  local name=$1 limit=$2 start=$EPOCHREALTIME code=0 took
  shift 2
  chosen "$name" || return 0
  echo "$name" >>"$logs/names"
  status_of "$name" unfinished 0 "check.sh ended before it did"
  timeout --kill-after=10 "$limit" "$@" >"$logs/$name.out" 2>"$logs/$name.err" </dev/null || code=$?
  took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.2f", b - a}')
  case $code in
    0) write_down "$name" passed "$took" "" ;;
    124|137) write_down "$name" timeout "$took" "limit $limit s" ;;
    *) write_down "$name" failed "$took" "exit status $code: $(for end in err out; do tail -n 1 "$logs/$name.$end"; done | grep -m 1 . | tr -d '\000-\037' | cut -c1-160)" ;;
  esac
}
# The same beside others; `wait` before what is timed. No result of such a part is a time.
beside() {
  chosen "$1" || return 0
  while (($(jobs -rp | wc -l) >= at_once)); do wait -n; done
  part "$@" &
}
skip() {
  wanted "$1" || return 0
  echo "$1" >>"$logs/names"
  write_down "$1" skipped 0 "$2"
}

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
  # cmake/plugin_tests.cmake made the list; a program that is in it and not in bin/ is a failure.
  # By itself the one that measures the memory that the device has left.
  alone=cuda_program_test
  for name in $(<"$build/cuda_tests.txt"); do
    # The dry run shows that a program's result arrives; that all pass on the emulator is ctest's to say.
    if $dry && [[ $name != golden_test ]]; then continue; fi
    [[ $name == "$alone" ]] && continue
    beside "tests.$name" 240 "$build/bin/$name" --gtest_brief=1 "--gtest_output=json:$logs/tests.$name.json"
  done
  wait
  $dry || part "tests.$alone" 240 "$build/bin/$alone" --gtest_brief=1 "--gtest_output=json:$logs/tests.$alone.json"
fi

if wanted sanitizer; then
  for tool in memcheck racecheck initcheck synccheck; do
    if ! sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) || $dry; then
      skip "sanitizer.$tool" "no compute-sanitizer here"
      continue
    fi
    for load in "${workloads[@]}"; do
      [[ $load == omniglot_k5 ]] && continue
      chosen "sanitizer.$tool.$load" || continue
      has_data "$load" || { skip "sanitizer.$tool.$load" "no data"; continue; }
      mapfile -t small < <(small_of "$load"; data_of "$load")
      beside "sanitizer.$tool.$load" 240 "$sanitizer" --tool "$tool" --error-exitcode 9 "$cumeta" train \
        "bench/gpu/$load.toml" --device cuda --out "$logs/sanitized.$tool.$load" --set run.updates=2 --set run.validate_every=0 "${small[@]}"
    done
    # Tasks of the host, which none of the workloads has.
    beside "sanitizer.$tool.uploads" 240 "$sanitizer" --tool "$tool" --error-exitcode 9 "$build/bin/learner_uploads_test" \
      --gtest_brief=1 '--gtest_filter=*/cuda'
  done
  wait
  rm -rf "$logs"/sanitized.*
fi

if wanted bits; then
  for load in "${workloads[@]}"; do
    chosen "bits.$load" || continue
    has_data "$load" || { skip "bits.$load" "no data"; continue; }
    small=() updates=40
    $dry && { mapfile -t small < <(small_of "$load"); updates=2; }
    call "bits.$load" 120 same_bits "$load" "$updates" "${small[@]}"
  done
fi

bench() { # part workload, more arguments
  local name=$1 load=$2 arguments
  shift 2
  chosen "$name" || return 0
  has_data "$load" || { skip "$name" "no data"; return; }
  mapfile -t arguments < <(data_of "$load"; if $dry; then small_of "$load"; printf '%s\n' --rounds 1; fi)
  part "$name" 60 "$cumeta" bench "bench/gpu/$load.toml" --device cuda --json "${arguments[@]}" "$@"
}
if wanted bench; then
  for load in "${workloads[@]}"; do
    bench "bench.$load" "$load"
    $dry && [[ $load != sinusoid_k1 ]] || bench "bench.unfused.$load" "$load" --set plan.implementation=unfused
  done
  # Layer by layer (of the networks above, all four passes) and by algorithm, steps and tasks: JSON that stays in parts/.
  if [[ -x $build/bin/passes_bench ]]; then
    passes='^published/(omniglot.*_e5_|mini_imagenet|sinusoid).*/cuda' updates='^(sinusoid|omniglot)/.*/steps:[15]/tasks:(32|128)/cuda'
    $dry && passes='^published/sinusoid_linear2.*/cuda' updates='^sinusoid/maml/steps:1/tasks:4/cuda'
    part bench.passes 180 "$build/bin/passes_bench" "--benchmark_filter=$passes" --benchmark_format=json
    part bench.updates 180 "$build/bin/updates_bench" "--benchmark_filter=$updates" --benchmark_min_time=0.1 --benchmark_format=json
  else
    skip bench.passes "built without Google Benchmark"
    skip bench.updates "built without Google Benchmark"
  fi
fi

if wanted vendor; then
  # cuBLAS and cuDNN of the toolkit or of Python's wheels, for these parts alone. The emulated plugin has models of its own.
  wheels=$(python3 -c 'import nvidia, pathlib; print(":".join(str(p) for r in nvidia.__path__ for p in pathlib.Path(r).glob("*/lib")))' 2>/dev/null)
  libraries=$wheels:/usr/local/cuda/lib64:${LD_LIBRARY_PATH:-}
  if why=$(LD_LIBRARY_PATH=$libraries "$cumeta" info --json | python3 -c 'import json, sys
print(next(p["problem"] for p in json.load(sys.stdin)["plugins"] if p["plugin"] == "cuda_vendor"))'); [[ -n $why ]]; then
    skip vendor "$why"
  else
    loads=("${workloads[@]}")
    $dry && loads=(sinusoid_k1)
    $dry || for name in layers_test golden_test implementation_test; do
      CUMETA_REQUIRE_VENDOR=1 LD_LIBRARY_PATH=$libraries part "vendor.$name" 120 "$build/bin/$name" --gtest_brief=1 \
        '--gtest_filter=*endor*:*Fastest*' "--gtest_output=json:$logs/vendor.$name.json"
    done
    for load in "${loads[@]}"; do
      LD_LIBRARY_PATH=$libraries bench "vendor.$load" "$load" --set plan.implementation=vendor
      LD_LIBRARY_PATH=$libraries bench "vendor.fastest.$load" "$load" --set plan.implementation=fastest
    done
  fi
fi

if wanted profile; then
  if ! $dry && profiler=$(command -v ncu || ls /usr/local/cuda/bin/ncu 2>/dev/null); then
    metrics=gpu__time_duration.sum,sm__throughput.avg.pct_of_peak_sustained_elapsed,dram__throughput.avg.pct_of_peak_sustained_elapsed,sm__warps_active.avg.pct_of_peak_sustained_active,launch__registers_per_thread,launch__grid_size
    for load in "${workloads[@]}"; do
      chosen "profile.$load" || continue
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
python3 bench/gpu/report.py "$out"
code=$?
for name in ${only//,/ }; do
  while read -r met; do [[ $met. == "$name".* || $name. == "$met".* ]] && continue 2; done <"$logs/names"
  echo "check.sh: no part '$name'; see --help" >&2
  code=2
done
exit $code
