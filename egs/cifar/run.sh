#!/usr/bin/env bash
# The wide residual network with and without the IRL loss, under noise and attacks (the paper's Table 2).
#
#   ./run.sh                                      the mini corpus: handwritten digits in colour, made on the spot
#   ./run.sh --corpus cifar10 --source DIR        the published archive in DIR; --download true fetches it
#   ./run.sh --corpus cifar100 --source DIR
#   ./run.sh --corpus parquet --source DIR        train*.parquet and test*.parquet  [--classes "..."]
#   ./run.sh --corpus folder --source DIR         DIR/{train,test}/CLASS/*.png, your own images
#
# --stage N --stop-stage N   0 corpus, 1 data, 2 corruptions, 3 statistics, 4 train, 5 evaluate, 6 score, 7 analyse
# --methods "..."            a file conf/.../METHOD.yaml each; the default is all nine
# --seeds "1 2 3"            --nj N jobs at once          --conf DIR (default conf/CORPUS; conf/short is for CPUs)
# --name NAME                of data/, exp/ and results/   --train-images N, --dev-images N   of the training set
# --conditions "..."         of none in out fgsm_EPS pgdSTEPS_EPS apgd_ce_EPS apgd_dlr_EPS random_EPS autoattack_EPS corruption
# --eps "SMALL LARGE"        of the attacks in the default conditions, on normalised pixels
# --corruptions DIR          CIFAR-10-C; otherwise Gaussian noise, blur and JPEG at five severities are made
# --results FILE             JSON lines of finished runs; runs that it holds are not made again
# --test-set data/mini/dev.npz   tests on the dev set, for tuning; give such runs a --results of their own
# --overrides "key=value ..." for every training           --test-overrides "key=value ..." for every evaluation
# --device cpu|cuda          of evaluation; training finds its own

# shellcheck disable=SC2034,SC2154  # some options are for local/corpora, lists come from utils/stages.sh
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2 corpus=mini source="" download="" classes="" train_images=0 dev_images=5000
methods="baseline data_aug irl_batching irl_loss adversarial weighted_adversarial weighted_adversarial_irl_loss semi_labelled semi_unlabelled"
conditions="" eps="" corruptions="" test_set="" seeds=1 name="" conf="" overrides="" test_overrides="" results="" note="" device=""
flags="download"

. ./path.sh
. ../../utils/parse_options.sh
. ./cmd.sh
. ../../utils/stages.sh

[ -f "local/corpora/$corpus.sh" ] || fail "unknown corpus $corpus, known are $(basename -s .sh local/corpora/*.sh | xargs)"
# shellcheck source=/dev/null
. "local/corpora/$corpus.sh"
name=${name:-$corpus} conf=${conf:-conf/$corpus} results=${results:-results/$name.jsonl} data=data/$name exp=exp/$name
log=$exp/log test_set=${test_set:-$data/test.npz} eps=${eps:-"0.2 0.8"}
[ -f "$conf/irl_batching.yaml" ] || fail "$conf has no irl_batching.yaml"
read -r small large <<<"$eps"
[ -n "$large" ] || fail "--eps wants two sizes, as \"0.2 0.8\", not $eps"
conditions=${conditions:-"none in out fgsm_$small fgsm_$large pgd20_$small random_$small corruption"}
lists methods seeds conditions overrides test_overrides
settings=("train_set=$data/train.npz" "dev_set=$data/dev.npz" "statistics=$data/statistics.json" "${overrides_list[@]}")
testing=("${test_overrides_list[@]}" ${corruptions:+"corruptions=$corruptions"})
made=$data/corruptions_of_$(basename "$test_set" .npz)
mkdir -p "$log"

# make_sets FORMAT OPTION ...: decode a published set
make_sets() {
    local format=$1
    shift
    python local/make_sets.py "$data" "$format" "${source:?--corpus $corpus needs --source DIR, see README.md}" \
        --train "$train_images" --dev "$dev_images" "$@"
}

python -m irl.bin.plan "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${methods_list[@]}" \
    --seeds "${seeds_list[@]}" --conditions "${conditions_list[@]}" --settings "$conf/evaluation.yaml" \
    --test "${testing[@]}" --out "$exp"

if run_stage 0 "corpus $corpus"; then make_corpus; fi

if run_stage 1 "check the sets"; then
    python -m irl.bin.validate "$data/train.npz" "$data/dev.npz" "$test_set"
fi

if run_stage 2 "corruptions"; then
    [ -n "$corruptions" ] || [[ $conditions != *corruption* ]] || python local/make_corruptions.py "$test_set" "$made"
fi

if run_stage 3 "statistics of the training set"; then
    python -m irl.bin.prepare "$conf/irl_batching.yaml" "${settings[@]}" --check "$test_set"
fi

if run_stage 4 "train"; then
    each "$train_cmd" train "$exp/missing.list" python -m irl.bin.train "$conf/{1}.yaml" "${settings[@]}" seed='{2}' --exp "$exp/{1}.{2}"
fi

if run_stage 5 "evaluate"; then
    each "$decode_cmd" evaluate "$exp/missing.list" python -m irl.bin.evaluate "$exp/{1}.{2}/checkpoint.pt" \
        --test "${testing[@]}" --data "$test_set" --conditions "${conditions_list[@]}" --settings "$conf/evaluation.yaml" \
        --corruptions "$made" --out "$exp/{1}.{2}/evaluate" ${device:+--device "$device"}
fi

if run_stage 6 "score"; then
    while read -r method seed _; do
        python -m irl.bin.score --run "$exp/$method.$seed" --corpus "$name" --method "$method" --results "$results" --data "$test_set" \
            --conditions "${conditions_list[@]}"
    done <"$exp/missing.list"
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report"
fi

if run_stage 7 "analyse"; then
    first=("${methods_list[@]/#/$exp/}")
    python -m irl.bin.analyse "${first[@]/%/.${seeds_list[0]}}" --clean "$test_set" --noisy in --settings "$conf/evaluation.yaml" \
        --test "${testing[@]}" --out "$exp/report" ${device:+--device "$device"}
fi
