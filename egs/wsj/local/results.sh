#!/usr/bin/env bash
# Renew the committed tables and figures from results/*.jsonl (see conf/table.yaml); called by hand after new runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./path.sh
python -m irl.bin.report
