#!/usr/bin/env bash
# The 4-4 encoder-decoder with and without the IRL loss, tested under seven acoustic conditions (the paper's Table 3).
#
#   ./run.sh                                     the mini corpus: synthetic speech, made on the spot
#   ./run.sh --corpus fsdd --fsdd DIR            digit strings from the Free Spoken Digit Dataset [--split index|speaker]
#   ./run.sh --corpus wsj --wsj0 DIR --wsj1 DIR  LDC93S6B and LDC94S13B
#   ./run.sh --corpus librispeech --librispeech DIR   [--train-parts "train-clean-100 train-clean-360"]
#   ./run.sh --corpus kaldi --train-dir DIR --dev-dir DIR --test-dirs "DIR ..."   your own data directories
#
# --stage N --stop-stage N   0 corpus, 1 data, 2 noise, 3 vocabulary, 4 train, 5 decode, 6 score, 7 analyse
# --methods "..."            baseline data_aug irl_batching irl_loss (conf/CORPUS/METHOD.yaml, or else conf/methods/METHOD.yaml)
# --seeds "1 2 3"            --nj N jobs at once          --conf DIR (default conf/CORPUS)
# --name NAME                of data/, exp/ and results/   --allow-pipes true   run commands found in wav.scp
# --musan DIR --rirs DIR     MUSAN and RIRS_NOISES, or banks in their layouts; generated where not given
# --results FILE             JSON lines of finished runs; runs that it holds are not made again
# --test-dirs data/fsdd/dev  tests on the dev set, for tuning and ablations; give such runs a --results of their own
# --overrides "key=value ..." for every training           --incomplete true   take a corpus that is not whole
# --beam N --ctc-weight W --length-bonus W --search joint|attention|ctc|espnet
# --lm true [--lm-weight W]  decodes with a character LM, conf/CORPUS/lm.yaml   --lm-overrides "key=value ..." for it
# --tune true                finds the weights of decoding on the dev set, once: results/NAME.[lm-]weights.json

# shellcheck disable=SC2034,SC2154  # options are for local/corpora too; utils/recipe.sh sets names and lists
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2 corpus=mini fsdd="" split=index wsj0="" wsj1="" librispeech="" train_parts=train-clean-100 incomplete=""
train_dir="" dev_dir="" test_dirs="" musan="" rirs=""
methods="baseline data_aug irl_batching irl_loss"
conditions="additive rir speech vup vdown tel"
seeds=1 name="" allow_pipes="" conf="" overrides="" results="" note=""
beam=5 ctc_weight=0.5 length_bonus=0 search=joint lm="" lm_weight=0.3 lm_overrides="" tune=""
flags="lm tune incomplete allow_pipes" talkers=()

. ./path.sh
. ../../utils/recipe.sh

train_dir=${train_dir:-$data/train} dev_dir=${dev_dir:-$data/dev} test_dirs=${test_dirs:-$data/test}
train_dir=${train_dir%/} dev_dir=${dev_dir%/}
lists conditions test_dirs lm_overrides
base=$(basename "${test_dirs_list[0]}") pipes=(${allow_pipes:+--allow-pipes})

# A bank of the user's is split by file, its rooms by room. Generated banks are made apart: what is made for one test set
# is not heard in another, nor in training.
bank_train=$data/bank_train bank_test=$data/bank_for_$base
lm_settings=("train_dir=$train_dir" "dev_dir=$dev_dir" "vocabulary=$data/lang/tokens.txt")
settings=("${lm_settings[@]}" "statistics=$data/lang/statistics.json" "noise.musan=${musan:-$bank_train}"
    "noise.rirs=${rirs:-$bank_train}" "noise.part=${musan:+train}" "noise.rirs_part=${rirs:+train}"
    "${overrides_list[@]}" ${allow_pipes:+allow_pipes=true})
lm_settings+=("${lm_overrides_list[@]}")
rate=$(python -m irl.bin.show_config "$conf/irl_batching.yaml" --key features.rate "${settings[@]}")

# Weights of decoding are tuned on the dev set and on a noisy copy of it, once for all rows of a results file.
dev=("$dev_dir" "$data/noisy/$(basename "$dev_dir")_heard")
decoding=(--search "$search" --beam "$beam" --ctc-weight "$ctc_weight" --length-bonus "$length_bonus")
[ -z "$lm" ] || decoding+=(--lm "$conf/lm.yaml" --lm-overrides "${lm_settings[@]}" --lm-weight "$lm_weight")
[ -z "$tune" ] || decoding+=(--tune "${dev[@]}" --weights "${results%.jsonl}.${lm:+lm-}weights.json")

python -m irl.bin.plan "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${methods_list[@]}" --nj "$nj" --split \
    --seeds "${seeds_list[@]}" --clean irl_batching --test-dirs "${test_dirs_list[@]}" --conditions "${conditions_list[@]}" \
    --noisy "$data/noisy" --musan "$musan" --rirs "$rirs" --made-bank "$bank_test" "${decoding[@]}" --out "$exp"

if run_stage 0 "corpus $corpus"; then make_corpus; fi

if run_stage 1 "check the data directories"; then
    python -m irl.bin.validate speech --rate "$rate" "${pipes[@]}" "$train_dir" "$dev_dir" "${test_dirs_list[@]}"
fi

if run_stage 2 "noise banks and noisy test sets"; then
    [ "${#talkers[@]}" -gt 0 ] || talkers=("${test_dirs_list[@]}")
    bank=(python -m irl.bin.make_bank --rate "$rate" --nj "$nj" "${pipes[@]}")
    [ -n "$musan" ] || "${bank[@]}" "$bank_train" --name train --speech "$train_dir"
    if [ -z "$musan" ] || [ -z "$rirs" ]; then
        "${bank[@]}" "$bank_test" --name "${base/#train/test-train}" --speech "${talkers[@]}"
    fi
    jobs "$decode_cmd" corrupt
    [ -z "$tune" ] || $decode_cmd "$log/corrupt.dev.log" python -m irl.bin.corrupt "${dev[@]}" --condition additive \
        --musan "${musan:-$bank_train}" --part "${musan:+dev}" --rate "$rate" "${pipes[@]}"
    cat "$log"/corrupt.*.log | grep crc32
fi

if run_stage 3 "vocabulary and feature statistics"; then
    python -m irl.bin.prepare "$conf/irl_batching.yaml" "${settings[@]}" --check "${test_dirs_list[@]}"
fi

if run_stage 4 "train"; then
    jobs "$train_cmd" lm
    jobs "$train_cmd" clean
    jobs "$train_cmd" train
fi

if run_stage 5 "decode"; then
    jobs "$decode_cmd" tune
    [ -z "$tune" ] || cat "$log"/tune.*.log | grep CER || true
    jobs "$decode_cmd" part
    jobs "$decode_cmd" evaluate
fi

if run_stage 6 "score"; then
    here score
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report" \
        --exp "$exp" --data "$data/noisy/${base}_${conditions_list[0]}" --condition "${conditions_list[0]}" >"$log/report.log"
fi

if run_stage 7 "analyse"; then here analyse; fi

last=${methods_list[-1]}.${seeds_list[0]}
finish "irl transcribe egs/wsj/$exp/$last/checkpoint.pt RECORDING.wav" "irl status egs/wsj/$exp" 'egs/wsj/run.sh --seeds "1 2 3"'
