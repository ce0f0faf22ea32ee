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
# --methods "..."            baseline data_aug irl_batching irl_loss (a file conf/CORPUS/METHOD.yaml each)
# --seeds "1 2 3"            --nj N jobs at once          --conf DIR (default conf/CORPUS)
# --name NAME                of data/, exp/ and results/   --allow-pipes true   run commands found in wav.scp
# --musan DIR --rirs DIR     MUSAN and RIRS_NOISES, or banks in their layouts; generated where not given
# --results FILE             JSON lines of finished runs; runs that it holds are not made again
# --test-dirs data/fsdd/dev  tests on the dev set, for tuning and ablations; give such runs a --results of their own
# --overrides "key=value ..." for every training           --incomplete true   take a corpus that is not whole
# --beam N --ctc-weight W --length-bonus W --search joint|attention|ctc|espnet
# --lm true [--lm-weight W]  decodes with a character LM, conf/CORPUS/lm.yaml   --lm-overrides "key=value ..." for it
# --tune true                finds the weights of decoding on the dev set, once: results/NAME.[lm-]weights.json

# shellcheck disable=SC2034,SC2154  # some options are for local/corpora, lists come from utils/stages.sh
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2 corpus=mini fsdd="" split=index wsj0="" wsj1="" librispeech="" train_parts=train-clean-100 incomplete=""
train_dir="" dev_dir="" test_dirs="" musan="" rirs=""
methods="baseline data_aug irl_batching irl_loss"
conditions="additive rir speech vup vdown tel"
seeds=1 name="" allow_pipes="" conf="" overrides="" results="" note=""
beam=5 ctc_weight=0.5 length_bonus=0 search=joint lm="" lm_weight=0.3 lm_overrides="" tune=""
flags="lm tune incomplete allow_pipes"

. ./path.sh
. ../../utils/parse_options.sh
. ./cmd.sh
. ../../utils/stages.sh

[ -f "local/corpora/$corpus.sh" ] || fail "unknown corpus $corpus, known are $(basename -s .sh local/corpora/*.sh | xargs)"
# shellcheck source=/dev/null
. "local/corpora/$corpus.sh"
name=${name:-$corpus} conf=${conf:-conf/$corpus} results=${results:-results/$name.jsonl} data=data/$name exp=exp/$name talkers=()
[ "$corpus" = kaldi ] || { train_dir=$data/train; dev_dir=$data/dev; }
locate
train_dir=${train_dir%/} dev_dir=${dev_dir%/} test_dirs=${test_dirs:-$data/test}
[ -f "$conf/irl_batching.yaml" ] || fail "$conf has no irl_batching.yaml"

# A bank of the user's is split by file, its rooms by room; generated banks are made apart for training and test.
bank_train=${musan:-$data/bank_train} rooms=${rirs:-$data/bank_train}
lm_settings=("train_dir=$train_dir" "dev_dir=$dev_dir" "vocabulary=$data/lang/tokens.txt")
settings=("${lm_settings[@]}" "statistics=$data/lang/statistics.json" "noise.musan=$bank_train" "noise.rirs=$rooms"
    "noise.part=${musan:+train}" "noise.rirs_part=${rirs:+train}")
lists methods seeds conditions test_dirs overrides lm_overrides
settings+=("${overrides_list[@]}" ${allow_pipes:+allow_pipes=true})
lm_settings+=("${lm_overrides_list[@]}")
[ -z "$(basename -a "${test_dirs_list[@]}" | sort | uniq -d)" ] || fail "two test directories have the same name: $test_dirs"
# What is made for one test set is not heard in another, nor in training.
base=$(basename "${test_dirs_list[0]}")
made_test=$data/bank_for_$base bank_test=${musan:-$made_test} log=$exp/log
mkdir -p "$log"
rate=$(python -m irl.bin.show_config "$conf/irl_batching.yaml" --key features.rate "${settings[@]}")
pipes=(${allow_pipes:+--allow-pipes})

# How to decode; weights are tuned on the dev set and on a noisy copy of it, with each method's run of the first seed,
# once for all rows of a results file.
dev=("$dev_dir" "$data/noisy/$(basename "$dev_dir")_heard")
weights=${results%.jsonl}.${lm:+lm-}weights.json
decoding=(--search "$search" --beam "$beam" --ctc-weight "$ctc_weight" --length-bonus "$length_bonus")
[ -z "$lm" ] || decoding+=(--lm-weight "$lm_weight")
lm_model=(${lm:+--lm "$exp/lm/checkpoint.pt"}) banks=(--banks "${musan:-generated}" "${rirs:-generated}")
first=("${methods_list[@]/#/$exp/}") tests=()
first=("${first[@]/%/.${seeds_list[0]}}")

# The test sets by name: each directory itself is `none`, its noisy copies lie under $data/noisy.
: >"$exp/noisy.list"
for dir in "${test_dirs_list[@]}"; do
    prefix=
    [ "${#test_dirs_list[@]}" -gt 1 ] && prefix=$(basename "$dir"):
    tests+=("${prefix}none=$dir")
    for condition in "${conditions_list[@]}"; do
        noisy=$data/noisy/$(basename "$dir")_$condition
        tests+=("$prefix$condition=$noisy")
        echo "$dir $noisy $condition" >>"$exp/noisy.list"
    done
done

python -m irl.bin.plan "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${methods_list[@]}" \
    --seeds "${seeds_list[@]}" --conditions "${tests[@]}" "${decoding[@]}" ${lm:+--lm "$conf/lm.yaml"} "${banks[@]}" \
    --lm-overrides "${lm_settings[@]}" ${tune:+--tuned "${dev[@]##*/}"} --nj "$nj" --out "$exp"

if run_stage 0 "corpus $corpus"; then make_corpus; fi

if run_stage 1 "check the data directories"; then
    python -m irl.bin.validate --rate "$rate" "${pipes[@]}" "$train_dir" "$dev_dir" "${test_dirs_list[@]}"
fi

if run_stage 2 "noise banks and noisy test sets"; then
    [ "${#talkers[@]}" -gt 0 ] || talkers=("${test_dirs_list[@]}")
    if [ -z "$musan" ]; then
        python -m irl.bin.make_bank "$bank_train" --name train --rate "$rate" --speech "$train_dir" --nj "$nj" "${pipes[@]}"
    fi
    if [ -z "$musan" ] || [ -z "$rirs" ]; then
        python -m irl.bin.make_bank "$made_test" --name "${base/#train/test-train}" --rate "$rate" --speech "${talkers[@]}" --nj "$nj" "${pipes[@]}"
    fi
    each "$decode_cmd" noisy "$exp/noisy.list" python -m irl.bin.corrupt '{1}' '{2}' --condition '{3}' --rate "$rate" \
        --musan "$bank_test" --part "${musan:+test}" --rirs "${rirs:-$made_test}" --rirs-part "${rirs:+test}" "${pipes[@]}"
    [ -z "$tune" ] || $decode_cmd "$log/noisy.dev.log" python -m irl.bin.corrupt "${dev[@]}" --condition additive \
        --musan "$bank_train" --part "${musan:+dev}" --rate "$rate" "${pipes[@]}"
    cat "$log"/noisy.*.log | grep crc32
fi

if run_stage 3 "vocabulary and feature statistics"; then
    python -m irl.bin.prepare "$conf/irl_batching.yaml" "${settings[@]}" --check "${test_dirs_list[@]}"
fi

if run_stage 4 "train"; then
    [ -z "$lm" ] || [ ! -s "$exp/missing.list" ] || $train_cmd "$log/lm.log" python -m irl.bin.train "$conf/lm.yaml" "${lm_settings[@]}" --exp "$exp/lm"
    each "$train_cmd" clean "$exp/clean.list" python -m irl.bin.train "$conf/irl_batching.yaml" "${settings[@]}" \
        seed='{1}' --exp "$exp/clean.{1}" --stop clean
    each "$train_cmd" train "$exp/missing.list" python -m irl.bin.train "$conf/{1}.yaml" "${settings[@]}" \
        seed='{2}' --exp "$exp/{1}.{2}" --start "$exp/clean.{2}/checkpoint.pt"
fi

if run_stage 5 "decode"; then
    if [ -n "$tune" ] && [ -s "$exp/missing.list" ]; then
        $decode_cmd "$log/tune.log" python -m irl.bin.tune "${first[@]/%//checkpoint.pt}" --data "${dev[@]}" --out "$weights" \
            "${lm_model[@]}" --beam "$beam" --nj "$nj" "${pipes[@]}"
        grep CER "$log/tune.log" || true
    fi
    [ -z "$tune" ] || decoding+=(--tuned "$weights")
    decode=(python -m irl.bin.decode "$exp/{1}.{2}/checkpoint.pt" --data "${tests[@]#*=}" --out "$exp/{1}.{2}/decode"
        "${decoding[@]}" "${lm_model[@]}" "${pipes[@]}")
    each "$decode_cmd" part "$exp/parts.list" "${decode[@]}" --jobs '{4}' --job '{3}'
    each "$decode_cmd" decode "$exp/missing.list" "${decode[@]}" --jobs '{3}'
fi

if run_stage 6 "score"; then
    while read -r method seed _; do
        python -m irl.bin.score --run "$exp/$method.$seed" --corpus "$name" --method "$method" --results "$results" \
            --conditions "${tests[@]}" "${banks[@]}"
    done <"$exp/missing.list"
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report" \
        --exp "$exp" --data "$data/noisy/$(basename "${test_dirs_list[0]}")_${conditions_list[0]}" --condition "${conditions_list[0]}"
fi

if run_stage 7 "analyse"; then
    python -m irl.bin.analyse "${first[@]}" --clean "${test_dirs_list[0]}" --out "$exp/report" \
        --noisy "$data/noisy/$(basename "${test_dirs_list[0]}")_${conditions_list[0]}"
fi
