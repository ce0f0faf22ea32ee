#!/usr/bin/env bash
# Renew the committed tables and pictures from results/*.jsonl; called by hand in egs/wsj after new runs.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=/dev/null
. ./path.sh
synthetic="Synthetic speech (eSpeak NG, 20 voices): rates on it say nothing about real speech."
voices="Digit strings of real voices, 8 kHz"

# renew NAME CORPUS NOTE
renew() {
    python -m irl.bin.report "results/$1.jsonl" --corpus "$2" --out results --name "$1" --insert ../../README.md RESULTS.md --note "$3"
    rm "results/$1.md"
}

renew mini mini "$synthetic"
renew fsdd fsdd "$voices."
renew fsdd-lm fsdd "$voices."
renew fsdd-augmented fsdd "$voices; dev set, seed 1; speed perturbation, SpecAugment, label smoothing 0.1."
renew fsdd-speaker fsdd-speaker "$voices; nobody is both in training and in the test."
renew fsdd-ablations fsdd "$voices; dev set, seed 1."
