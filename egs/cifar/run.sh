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
# --methods "..."            of conf/CORPUS and conf/methods, see README.md; the default is all nine
# --seeds "1 2 3"            --nj N jobs at once          --conf DIR (default conf/CORPUS; conf/short is for CPUs)
# --name NAME                of data/, exp/ and results/   --train-images N, --dev-images N   of the training set
# --conditions "..."         of none in out fgsm_EPS pgdSTEPS_EPS apgd_ce_EPS apgd_dlr_EPS random_EPS autoattack_EPS corruption
# --eps "SMALL LARGE"        of the attacks in the default conditions, on normalised pixels
# --corruptions DIR          CIFAR-10-C; otherwise Gaussian noise, blur and JPEG at five severities are made
# --results FILE             JSON lines of finished runs; runs that it holds are not made again
# --test-set data/mini/dev.npz   tests on the dev set, for tuning; give such runs a --results of their own
# --overrides "key=value ..." for every training           --test-overrides "key=value ..." for every evaluation
# --device cpu|cuda          of evaluation; training finds its own

# shellcheck disable=SC2034,SC2154  # options are for local/corpora too; utils/recipe.sh sets names and lists
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2 corpus=mini source="" download="" classes="" train_images=0 dev_images=5000
methods="baseline data_aug irl_batching irl_loss adversarial weighted_adversarial weighted_adversarial_irl_loss semi_labelled semi_unlabelled"
conditions="" eps="" corruptions="" test_set="" seeds=1 name="" conf="" overrides="" test_overrides="" results="" note="" device=""
flags="download"

. ./path.sh
. ../../utils/recipe.sh

test_set=${test_set:-$data/test.npz} eps=${eps:-"0.2 0.8"}
read -r small large <<<"$eps"
[ -n "$large" ] || fail "--eps wants two sizes, as \"0.2 0.8\", not $eps"
conditions=${conditions:-"none in out fgsm_$small fgsm_$large pgd20_$small random_$small corruption"}
lists conditions test_overrides
settings=("train_set=$data/train.npz" "dev_set=$data/dev.npz" "statistics=$data/statistics.json" "${overrides_list[@]}")
made=$data/corruptions_of_$(basename "$test_set" .npz)

# make_sets FORMAT OPTION ...: decode a published set
make_sets() {
    python local/make_sets.py "$data" "$1" "${source:?--corpus $corpus needs --source DIR, see README.md}" \
        --train "$train_images" --dev "$dev_images" "${@:2}"
}

python -m irl.bin.plan "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${methods_list[@]}" --nj "$nj" \
    --seeds "${seeds_list[@]}" --conditions "${conditions_list[@]}" --settings "$conf/evaluation.yaml" --data "$test_set" \
    --test "${test_overrides_list[@]}" ${corruptions:+"corruptions=$corruptions"} --corruptions "$made" --device "$device" --out "$exp"

if run_stage 0 "corpus $corpus"; then make_corpus; fi

if run_stage 1 "check the sets"; then
    python -m irl.bin.validate vision "$data/train.npz" "$data/dev.npz" "$test_set"
fi

if run_stage 2 "corruptions"; then
    [ -n "$corruptions" ] || [[ $conditions != *corruption* ]] || python local/make_corruptions.py "$test_set" "$made"
fi

if run_stage 3 "statistics of the training set"; then
    python -m irl.bin.prepare "$conf/irl_batching.yaml" "${settings[@]}" --check "$test_set"
fi

if run_stage 4 "train"; then jobs "$train_cmd" train; fi

if run_stage 5 "evaluate"; then jobs "$decode_cmd" evaluate; fi

if run_stage 6 "score"; then
    here score
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report" >"$log/report.log"
fi

if run_stage 7 "analyse"; then here analyse; fi

finish "irl status egs/cifar/$exp" 'egs/cifar/run.sh --seeds "1 2 3"' "egs/cifar/run.sh --help"
