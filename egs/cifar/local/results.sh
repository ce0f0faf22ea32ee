#!/usr/bin/env bash
# Renew the committed tables and pictures from results/*.jsonl; called by hand in egs/cifar after new runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./path.sh

# renew NAME CORPUS NOTE
renew() {
    python -m irl.bin.report "results/$1.jsonl" --corpus "$2" --out results --name "cifar-$1" --insert ../../README.md RESULTS.md --note "$3"
    rm "results/cifar-$1.md"
}

renew mini mini "Handwritten digits (UCI) coloured by this recipe: rates on it say nothing about photographs."
renew short short "CIFAR-10 (through JPEG once), 20,000 training images, WRN-16-1, the short schedule."
