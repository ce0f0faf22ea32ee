# The first 120,000 words of Penn Treebank's training text, and its valid and test texts: small enough to overfit on a CPU.
# shellcheck shell=bash disable=SC2034,SC2154
[ -n "$source" ] || fail "--corpus ptb_start needs --source DIR, see README.md"
unused train_text valid_text test_text
note=${note:-"The first 120,000 words of Penn Treebank, two layers of 200 units, 30 epochs."}
valid_text=$source/ptb.valid.txt test_text=$source/ptb.test.txt counts=()
locate() { train_text=$data/start.txt; }
make_corpus() {
    head -n 5393 "$source/ptb.train.txt" >"$train_text"
    take
}
