#!/usr/bin/env bash
# The 4-4 encoder-decoder with and without the IRL loss, tested under seven acoustic conditions (the paper's Table 3).
#
#   ./run.sh                                     the mini corpus: synthetic speech, made on the spot
#   ./run.sh --corpus fsdd --fsdd DIR            digit strings from the Free Spoken Digit Dataset
#   ./run.sh --corpus kaldi --train-dir DIR --dev-dir DIR --test-dirs "DIR ..."   your own data directories
#
# --stage N --stop-stage N   0 corpus, 1 data, 2 noise, 3 vocabulary, 4 train, 5 decode, 6 score, 7 analyse
# --methods "..."            baseline data_aug irl_batching irl_loss (a file conf/CORPUS/METHOD.yaml each)
# --seeds "1 2 3"            --nj N jobs at once          --conf DIR (default conf/CORPUS)
# --name NAME                of data/, exp/ and results/   --allow-pipes true   run commands found in wav.scp
# --musan DIR --rirs DIR     banks in the layouts of MUSAN and RIRS_NOISES; generated where not given
# --results FILE             JSON lines of finished runs; runs that it holds are not made again
# --test-dirs data/fsdd/dev  tests on the dev set, for tuning and ablations; give such runs a --results of their own
# --split index|speaker      of fsdd                      --overrides "key=value ..." for every training
# --beam N --ctc-weight W --search joint|attention|ctc|espnet

set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2
corpus=mini fsdd="" split=index train_dir="" dev_dir="" test_dirs="" musan="" rirs=""
methods="baseline data_aug irl_batching irl_loss"
conditions="additive rir speech vup vdown tel"
seeds=1 name="" allow_pipes="" conf="" overrides="" results="" note=""
beam=5 ctc_weight=0.5 search=joint

. ./path.sh
. ../../utils/parse_options.sh
. ./cmd.sh

[ "$corpus" = mini ] && note=${note:-Synthetic speech (eSpeak NG, 20 voices): rates on it say nothing about real speech.}
[ "$corpus$split" = fsddspeaker ] && name=${name:-fsdd-speaker}
name=${name:-$corpus} conf=${conf:-conf/$corpus} results=${results:-results/$name.jsonl} data=data/$name exp=exp/$name
[ "$corpus" = kaldi ] || { train_dir=$data/train; dev_dir=$data/dev; test_dirs=${test_dirs:-$data/test}; }

fail() { echo "$0: $1" >&2; exit 1; }
[ $# -eq 0 ] || fail "cannot use $1; values of several words need quotes"
[[ $stage,$stop_stage,$nj =~ ^[0-9]+,[0-9]+,[1-9][0-9]*$ ]] || fail "--stage, --stop-stage and --nj are numbers"
[ -f "$conf/irl_batching.yaml" ] || fail "$conf has no irl_batching.yaml; known corpora: mini fsdd kaldi"
[ -n "$train_dir" ] && [ -n "$dev_dir" ] && [ -n "$test_dirs" ] || fail "needs --train-dir, --dev-dir and --test-dirs"

# A bank of the user's is split by file; generated banks are made apart for training and test.
part=${musan:+yes}
bank_train=${musan:-$data/bank_train} rooms=${rirs:-$data/bank_train}
settings=("train_dir=$train_dir" "dev_dir=$dev_dir" "vocabulary=$data/lang/tokens.txt"
    "statistics=$data/lang/statistics.json" "noise.musan=$bank_train" "noise.rirs=$rooms" "noise.part=${part:+train}")
read -ra more <<<"$overrides${allow_pipes:+ allow_pipes=true}"
settings+=("${more[@]}")
read -ra method_list <<<"$methods"
read -ra seed_list <<<"$seeds"
read -ra condition_list <<<"$conditions"
read -ra test_list <<<"$test_dirs"
[ -z "$(basename -a "${test_list[@]}" | sort | uniq -d)" ] || fail "two test directories have the same name: $test_dirs"
# What is made for one test set is not heard in another, nor in training.
base=$(basename "${test_list[0]}") made_test=$data/bank_for_$base
bank_test=${musan:-$made_test}
mkdir -p "$exp/log"
rate=$(python -m irl.show_config "$conf/irl_batching.yaml" --key features.rate "${settings[@]}")
pipes=()
[ -z "$allow_pipes" ] || pipes=(--allow-pipes)

# The test sets by name: each directory itself is `none`, its noisy copies lie under $data/noisy.
: >"$exp/noisy.list"
tests=()
for dir in "${test_list[@]}"; do
    prefix=
    [ "${#test_list[@]}" -gt 1 ] && prefix=$(basename "$dir"):
    tests+=("${prefix}none=$dir")
    for condition in "${condition_list[@]}"; do
        noisy=$data/noisy/$(basename "$dir")_$condition
        tests+=("$prefix$condition=$noisy")
        echo "$dir $noisy $condition" >>"$exp/noisy.list"
    done
done

python -m irl.missing "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${method_list[@]}" \
    --seeds "${seed_list[@]}" --conditions "${tests[@]}" --search "$search" --beam "$beam" --ctc-weight "$ctc_weight" \
    --wanted "$exp/wanted.jsonl" >"$exp/missing.list"
# The clean phase of a seed is the same for every method: it is trained once.
cut -d' ' -f2 "$exp/missing.list" | sort -un >"$exp/clean.list"
echo "runs without a result in $results: $(wc -l <"$exp/missing.list")"

run_stage() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ] && echo "stage $1: $2"; }

# each CMD NAME LIST COMMAND ...: a job for each line of a list, $nj at once; {1} {2} stand for the line's fields.
each() {
    local cmd=$1 label=$2 list=$3 jobs
    shift 3
    jobs=$(wc -l <"$list")
    [ "$jobs" -eq 0 ] || $cmd --max-jobs-run "$nj" "JOB=1:$jobs" "$exp/log/$label.JOB.log" line.py "$list" JOB "$@"
}

if run_stage 0 "corpus $corpus"; then
    case $corpus in
        mini) python local/make_mini.py "$data" --nj "$nj" ;;
        fsdd) python local/make_fsdd.py "${fsdd:?--corpus fsdd needs --fsdd DIR, see README.md}" "$data" --split "$split" ;;
        *) echo "data directories as given: $train_dir $dev_dir $test_dirs" ;;
    esac
fi

if run_stage 1 "check the data directories"; then
    python -m irl.validate --rate "$rate" "${pipes[@]}" "$train_dir" "$dev_dir" "${test_list[@]}"
fi

if run_stage 2 "noise banks and noisy test sets"; then
    talkers=("${test_list[@]}")
    case $corpus$split in mini*) talkers=("$data/talkers") ;; fsddspeaker) talkers=("$data/test" "$dev_dir") ;; esac
    if [ -z "$musan" ]; then
        python -m irl.make_bank "$bank_train" --name train --rate "$rate" --speech "$train_dir" --nj "$nj" "${pipes[@]}"
    fi
    if [ -z "$musan" ] || [ -z "$rirs" ]; then
        python -m irl.make_bank "$made_test" --name "${base/#train/test-train}" --rate "$rate" --speech "${talkers[@]}" --nj "$nj" "${pipes[@]}"
    fi
    each "$decode_cmd" noisy "$exp/noisy.list" python -m irl.corrupt '{1}' '{2}' --condition '{3}' \
        --musan "$bank_test" --part "${part:+test}" --rirs "${rirs:-$made_test}" --rate "$rate" "${pipes[@]}"
    cat "$exp"/log/noisy.*.log | grep crc32
fi

if run_stage 3 "vocabulary and feature statistics"; then
    python -m irl.prepare "$conf/irl_batching.yaml" "${settings[@]}" --check "${test_list[@]}"
fi

if run_stage 4 "train"; then
    each "$train_cmd" clean "$exp/clean.list" python -m irl.train "$conf/irl_batching.yaml" "${settings[@]}" \
        seed='{1}' --exp "$exp/clean.{1}" --stop clean
    each "$train_cmd" train "$exp/missing.list" python -m irl.train "$conf/{1}.yaml" "${settings[@]}" \
        seed='{2}' --exp "$exp/{1}.{2}" --start "$exp/clean.{2}/checkpoint.pt"
fi

if run_stage 5 "decode"; then
    each "$decode_cmd" decode "$exp/missing.list" python -m irl.decode "$exp/{1}.{2}/checkpoint.pt" \
        --data "${tests[@]#*=}" --out "$exp/{1}.{2}/decode" --search "$search" --beam "$beam" --ctc-weight "$ctc_weight" "${pipes[@]}"
fi

if run_stage 6 "score"; then
    while read -r method seed; do
        python -m irl.score --run "$exp/$method.$seed" --corpus "$name" --method "$method" --results "$results" \
            --conditions "${tests[@]}"
    done <"$exp/missing.list"
    python -m irl.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report" \
        --exp "$exp" --data "$data/noisy/$(basename "${test_list[0]}")_${condition_list[0]}" --condition "${condition_list[0]}"
fi

if run_stage 7 "analyse"; then
    runs=("${method_list[@]/#/$exp/}")
    python -m irl.analyse "${runs[@]/%/.${seed_list[0]}}" --clean "${test_list[0]}" --out "$exp/report" \
        --noisy "$data/noisy/$(basename "${test_list[0]}")_${condition_list[0]}"
fi
