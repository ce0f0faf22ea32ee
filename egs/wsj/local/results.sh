#!/usr/bin/env bash
# Renew the committed tables and pictures from results/*.jsonl; called by hand in egs/wsj after new runs.
set -euo pipefail
cd "$(dirname "$0")/.."
. ./path.sh
synthetic="Synthetic speech (eSpeak NG, 20 voices): rates on it say nothing about real speech."
python -m irl.report results/mini.jsonl --corpus mini --out results --name mini --insert ../../README.md RESULTS.md \
    --note "$synthetic"
python -m irl.report results/fsdd.jsonl --corpus fsdd --out results --name fsdd --insert RESULTS.md \
    --note "Real voices: digit strings from the Free Spoken Digit Dataset."
