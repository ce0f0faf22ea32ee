#!/usr/bin/env bash
# Regenerate the committed tables and figures from results/*.jsonl (see conf/table.yaml). Run this by hand after new runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./path.sh
python -m irl.bin.report
