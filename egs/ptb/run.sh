#!/usr/bin/env bash
# Train the LSTM language model with and without the IRL loss, input words blanked or replaced (the paper's Table 1).
#
#   ./run.sh                                     the mini corpus: Python's manual, from its standard library
#   ./run.sh --corpus ptb --source DIR           ptb.train.txt, ptb.valid.txt, ptb.test.txt
#   ./run.sh --corpus ptb_start --source DIR     the first 120,000 words of it, for CPUs
#   ./run.sh --corpus wikitext2 --source DIR     wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens
#   ./run.sh --corpus text --train-text FILE --valid-text FILE --test-text FILE   your own, words between spaces
#
# --stage N --stop-stage N   0 corpus, 1 data, 3 vocabulary, 4 train, 5 evaluate, 6 score, 7 analyse (2 has nothing to do)
# --methods "..."            methods of conf/CORPUS and conf/methods, see README.md; the default is all seven
# --seeds "1 2 3"            one run for each method and seed
# --nj N                     jobs at once
# --conf DIR                 configurations (default conf/CORPUS; conf/small is for CPUs)
# --name NAME                names data/NAME and exp/NAME (default CORPUS)
# --conditions "valid test"  the texts in the table
# --results FILE             JSON lines of finished runs (default exp/NAME/results.jsonl); runs in it are not repeated while
#                            their data stay as they are. results/*.jsonl hold the runs of RESULTS.md, for reading
# --session NAME             lists, logs and report in exp/NAME/sessions/NAME: a second run.sh beside another of one --name
# --overrides "key=value ..."   change the configuration of every training
# --device cpu|cuda          device of evaluation; training chooses its own

# shellcheck disable=SC2034,SC2119,SC2154  # local/corpora reads these options too; utils/recipe.sh sets names, lists and report
set -euo pipefail
cd "$(dirname "$0")"

stage=0 stop_stage=100 nj=2 corpus=mini source="" train_text="" valid_text="" test_text=""
methods="baseline data_aug_unigram irl_batching_unigram irl_loss_unigram data_aug_blank irl_batching_blank irl_loss_blank"
conditions="valid test" seeds=1 name="" conf="" overrides="" results="" session="" note="" device=""
paths="source train_text valid_text test_text conf results"

. ./path.sh
. ../../utils/recipe.sh

for text in train valid test; do
    text=${text}_text
    [ -n "${!text}" ] || fail "--corpus $corpus needs --${text/_/-} FILE"
done
settings=("train_text=$data/train.txt" "dev_text=$data/valid.txt" "vocabulary=$data/words.txt" "${overrides_list[@]}")
mkdir -p "$data"

# take: copy the texts into $data, so that results do not contain the user's paths. Published texts must have the published counts.
take() {
    python -m irl.bin.validate language "$train_text" "$valid_text" "$test_text" ${counts[0]:+--tokens "${counts[@]}"}
    cp "$train_text" "$data/train.txt"
    cp "$valid_text" "$data/valid.txt"
    cp "$test_text" "$data/test.txt"
}

tests=()
for text in "${conditions_list[@]}"; do
    [[ $text =~ ^(train|valid|test)$ ]] || fail "--conditions: unknown text $text, known are train valid test"
    tests+=("$text=$data/$text.txt")
done
[ "${#tests[@]}" -gt 0 ] || fail "--conditions: expected texts of train valid test, found none"
# Which runs are missing, and the lists of commands $own/*.list that the stages run.
plan() {
    python -m irl.bin.plan "$conf" "${settings[@]}" --results "$results" --corpus "$name" --methods "${methods_list[@]}" --nj "$nj" \
        --seeds "${seeds_list[@]}" --conditions "${tests[@]}" --device "$device" "${elsewhere[@]}" --out "$exp" --lists "$own" "$@"
}
plan_draft

if run_stage 0 "corpus $corpus"; then make_corpus; fi

if run_stage 1 "check the texts"; then
    python -m irl.bin.validate language "$data"/{train,valid,test}.txt
fi

if run_stage 3 "vocabulary of the training text"; then
    python -m irl.bin.prepare "$conf/irl_batching_blank.yaml" "${settings[@]}" --check "$data/test.txt" --methods "${methods_list[@]}"
fi

plan_final

if run_stage 4 "train"; then jobs "$train_cmd" train; fi

if run_stage 5 "evaluate"; then jobs "$decode_cmd" evaluate; fi

if run_stage 6 "score"; then
    here score
    report
fi

if run_stage 7 "analyse"; then here analyse; fi

finish "irl status egs/ptb/$exp" 'egs/ptb/run.sh --seeds "1 2 3"' "egs/ptb/run.sh --help"
