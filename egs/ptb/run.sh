#!/usr/bin/env bash
# The LSTM language model with and without the IRL loss, input words blanked or replaced (the paper's Table 1).
#
#   ./run.sh                                     the mini corpus: Python's manual, taken from its library
#   ./run.sh --corpus ptb --source DIR           ptb.train.txt, ptb.valid.txt, ptb.test.txt
#   ./run.sh --corpus wikitext2 --source DIR     wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens
#   ./run.sh --corpus text --train-text FILE --valid-text FILE --test-text FILE   your own, words between spaces
#
# --stage N --stop-stage N   0 corpus, 1 data, 3 vocabulary, 4 train, 5 evaluate, 6 score, 7 analyse (2 has nothing to do)
# --methods "..."            a file conf/.../METHOD.yaml each; the default is the seven rows
# --seeds "1 2 3"            --nj N jobs at once          --conf DIR (default conf/CORPUS; conf/small is for CPUs)
# --name NAME                of data/, exp/ and results/
# --conditions "valid test"  the texts that the table shows
# --results FILE             JSON lines of finished runs; runs that it holds are not made again
# --overrides "key=value ..." for every training          --device cpu|cuda   of evaluation; training finds its own

# shellcheck disable=SC2034,SC2154  # some options are for local/corpora, lists come from utils/stages.sh
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2 corpus=mini source="" train_text="" valid_text="" test_text=""
methods="baseline data_aug_unigram irl_batching_unigram irl_loss_unigram data_aug_blank irl_batching_blank irl_loss_blank"
conditions="valid test" seeds=1 name="" conf="" overrides="" results="" note="" device=""

. ./path.sh
. ../../utils/parse_options.sh
. ./cmd.sh
. ../../utils/stages.sh

[ -f "local/corpora/$corpus.sh" ] || fail "unknown corpus $corpus, known are $(basename -s .sh local/corpora/*.sh | xargs)"
name=${name:-$corpus} results=${results:-results/$name.jsonl} data=data/$name exp=exp/$name log=exp/$name/log
case $corpus in ptb | wikitext2) [ -n "$source" ] || fail "--corpus $corpus needs --source DIR, see README.md" ;; esac
# shellcheck source=/dev/null
. "local/corpora/$corpus.sh"
conf=${conf:-conf/$corpus}
[ -f "$conf/irl_batching_blank.yaml" ] || fail "$conf has no irl_batching_blank.yaml"
for text in train valid test; do
    text=${text}_text
    [ -n "${!text}" ] || fail "--corpus $corpus needs --${text/_/-} FILE"
done
lists methods seeds conditions overrides
settings=("train_text=$data/train.txt" "dev_text=$data/valid.txt" "vocabulary=$data/words.txt" "${overrides_list[@]}")
mkdir -p "$log" "$data"

# take: the texts into $data, so that no result tells where they lay; published ones have as many tokens as is known.
take() {
    python -m irl.bin.validate "$train_text" "$valid_text" "$test_text" ${counts[0]:+--tokens "${counts[@]}"}
    cp "$train_text" "$data/train.txt"
    cp "$valid_text" "$data/valid.txt"
    cp "$test_text" "$data/test.txt"
}

python -m irl.bin.plan "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${methods_list[@]}" \
    --seeds "${seeds_list[@]}" --conditions "${conditions_list[@]}" --texts --out "$exp"

if run_stage 0 "corpus $corpus"; then make_corpus; fi

if run_stage 1 "check the texts"; then
    python -m irl.bin.validate "$data"/{train,valid,test}.txt
fi

if run_stage 3 "vocabulary of the training text"; then
    python -m irl.bin.prepare "$conf/irl_batching_blank.yaml" "${settings[@]}" --check "$data/test.txt"
fi

if run_stage 4 "train"; then
    each "$train_cmd" train "$exp/missing.list" python -m irl.bin.train "$conf/{1}.yaml" "${settings[@]}" seed='{2}' --exp "$exp/{1}.{2}"
fi

if run_stage 5 "evaluate"; then
    each "$decode_cmd" evaluate "$exp/missing.list" python -m irl.bin.perplexity "$exp/{1}.{2}/checkpoint.pt" \
        --texts "valid=$data/valid.txt" "test=$data/test.txt" --out "$exp/{1}.{2}/perplexity" ${device:+--device "$device"}
fi

if run_stage 6 "score"; then
    while read -r method seed _; do
        python -m irl.bin.score --run "$exp/$method.$seed" --corpus "$name" --method "$method" --results "$results" \
            --conditions "${conditions_list[@]}"
    done <"$exp/missing.list"
    python -m irl.bin.report "$results" --corpus "$name" --wanted "$exp/wanted.jsonl" --note "$note" --out "$exp/report"
fi

# By words that every method knows: the blank is a symbol that some have never seen.
if run_stage 7 "analyse"; then
    first=("${methods_list[@]/#/$exp/}")
    python -m irl.bin.analyse "${first[@]/%/.${seeds_list[0]}}" --clean "$data/valid.txt" --noisy unigram --out "$exp/report" \
        ${device:+--device "$device"}
fi
