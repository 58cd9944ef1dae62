#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench/gpu/check.sh and report.py see planted failures: programs that fail, die, are absent or are cut off, figures of an
# earlier time or commit, a vendor plugin that does not load.   usage: gpu_check_test.sh BUILD
set -uo pipefail
build=$(cd "$1" && pwd) || exit 2
check=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/bench/gpu/check.sh
folder=$(mktemp -d) failures=0
trap 'rm -rf "$folder"' EXIT
fake=$folder/build out=$folder/out

# expect STATUS EXPRESSION ARGUMENT...: check.sh with these ends so; EXPRESSION is Python over `r`, the report, and `part`, its
# statuses by name; empty where there is no report.
expect() {
  local status=$1 expression=$2 code=0
  shift 2
  { "$check" --dry-run --out "$out" "$@" >"$folder/said" 2>&1; } 2>/dev/null || code=$?
  if ((code != status)) || { [[ -n $expression ]] && ! python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
part = {p["part"]: p["status"] for p in r["parts"]}
text = open(sys.argv[1].replace(".json", ".md")).read()
sys.exit(0 if eval(sys.argv[2]) else 1)' "$out/check.json" "$expression"; }; then
    echo "gpu_check_test.sh:${BASH_LINENO[0]}: '$*' ended with $code, wanted $status and ${expression:-no report}:" >&2
    cat "$folder/said" >&2
    failures=$((failures + 1))
  fi
}
program() { # name, text of a script
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$fake/bin/$1"
  chmod +x "$fake/bin/$1"
}
# A program that answers as the real one; $selftest and $seconds are its own.
cumeta() {
  program cumeta "selftest=\"$1\" seconds=$2"'
case $1 in
  selftest) echo "{}"; eval "$selftest" ;;
  bench) printf "{\"device\": \"cuda (emulated)\", \"results\": [{\"algorithm\": \"maml\", \"order\": \"second\", \"seconds\": %s}]}\n" "$seconds"
    [[ $seconds != 9 ]] ;;
  *) echo "{}" ;;
esac'
}

mkdir -p "$fake"/{bin,lib}
: >"$fake/lib/libcumeta_cuda_emulated.so"
echo golden_test >"$fake/cuda_tests.txt"
program golden_test 'echo "{\"tests\": 3, \"failures\": 0}" >"${2#--gtest_output=json:}"'
cumeta true 1
some=machine,selftest,tests,bench.sinusoid_k1
expect 0 'r["failed"] == 0 and r["tests"]["tests"] == 3 and r["bench"]["sinusoid_k1"]["results"][0]["seconds"] == 1 and r["bundle"]["commit"] in text' \
  --build "$fake" --only "$some"
expect 0 'r["failed"] == 0 and "bench.unfused.sinusoid_k1" in part and len(part) == 6' --build "$fake" --only bench.unfused.sinusoid_k1

# A failure is counted, also by later calls that did not meet it, until its own step passes.
cumeta 'echo no such kernel >&2; exit 4' 1
expect 1 'r["failed"] == 1 and part["selftest"] == "failed" and "1 failed" in text and "no such kernel" in text' --build "$fake" --only selftest
expect 1 'r["failed"] == 1 and part["selftest"] == "failed"' --build "$fake" --only machine
cumeta true 1
expect 0 'r["failed"] == 0 and part["selftest"] == "passed"' --build "$fake" --only selftest

# So is one that was cut off together with check.sh, the parent of `timeout`, its own.
cumeta 'read -r _ _ _ script _ </proc/\$PPID/stat; kill -KILL \$script' 1
expect 137 "" --build "$fake" --only selftest
expect 1 'r["failed"] == 1 and part["selftest"] == "unfinished"' --build "$fake" --only machine

# Figures of an earlier time are no figures of a program that died, that is gone, or of a bench that failed.
cumeta true 9
program golden_test 'exit 3'
expect 1 'r["failed"] == 2 and r["tests"] == {"programs": 1, "without_figures": 1, "tests": 0, "failures": 0, "skipped": 0} and not r["bench"]' \
  --build "$fake" --only "$some"
rm "$fake/bin/golden_test"
expect 1 'part["tests.golden_test"] == "failed"' --build "$fake" --only tests
cumeta true 1
: >"$fake/cuda_tests.txt"
expect 2 'not any(p.startswith("tests") for p in part)' --build "$fake" --only tests
printf '{"part": "bench.of_old", "status": "failed", "seconds": 1, "note": ""}\n' >"$out/parts/bench.of_old.status"
expect 0 'r["failed"] == 0 and "bench.of_old" not in part and len(r["bench"]) > 1' --build "$fake" --only bench

# Nothing is mixed or taken away in silence.
expect 2 "" --build "$fake" --only bench.none
expect 2 "" --build "$fake" --only benches
sed -i 's/"commit": "/&other/' "$out/parts/run.json"
expect 2 "" --build "$fake" --only machine
[[ -e $out/parts/bench.sinusoid_k1.out ]] || { echo "gpu_check_test.sh: a refused call took parts away" >&2; failures=$((failures + 1)); }
rm "$out/parts/run.json"
expect 2 "" --build "$fake"

# A vendor plugin whose libraries are not here.
out=$folder/vendor
export CUMETA_CUDA_VENDOR_PLUGIN=$build/lib/libbroken_vendor.so
for only in vendor vendor.sinusoid_k1; do
  expect 0 'r["failed"] == 0 and part == {"vendor": "skipped"} and "libabsent_vendor.so.9" in text' --build "$build" --only "$only"
done
((failures == 0))
