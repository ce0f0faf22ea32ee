#!/usr/bin/env bash
# Renew the committed tables and pictures from results/*.jsonl; called by hand in egs/ptb after new runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./path.sh

# renew NAME CORPUS NOTE
renew() {
    [ -f "results/$1.jsonl" ] || return 0
    python -m irl.bin.report "results/$1.jsonl" --corpus "$2" --out results --name "ptb-$1" --insert ../../README.md RESULTS.md --note "$3"
    rm "results/ptb-$1.md"
}

renew mini mini "Python's manual: a text of one kind, and short."
renew small small "334,000 words of Wikipedia (WikiText-2's), two layers of 200 units, six epochs."
