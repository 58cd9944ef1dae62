#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The first command of a newcomer: installs, builds, trains MAML on sinusoids (half a minute) and shows how the loss falls
# over 0..10 inner steps on tasks it has never seen.   usage: scripts/demo.sh [updates]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

updates=${1:-20000}
[[ $updates =~ ^[1-9][0-9]*$ ]] || { echo "demo.sh: updates must be a positive number, not '$updates'" >&2; exit 2; }

scripts/setup.sh
cmake --preset release >/dev/null
cmake --build --preset release --target cumeta_program -- -j "${CUMETA_JOBS:-$(nproc)}"

run=$(mktemp -d "${TMPDIR:-/tmp}/cumeta-demo.XXXXXX")
trap 'rm -rf "$run"' EXIT
cumeta=build/release/bin/cumeta
"$cumeta" train recipes/sinusoid_maml.toml --out "$run/sinusoid" --set "run.updates=$updates"
"$cumeta" evaluate "$run/sinusoid" --tasks 1000 --steps 10
