# Penn Treebank as Mikolov prepared it: ptb.{train,valid,test}.txt.
# shellcheck shell=bash disable=SC2034,SC2154
[ -n "$source" ] || fail "--corpus ptb needs --source DIR, see README.md"
unused train_text valid_text test_text
note=${note:-"Penn Treebank."}
train_text=$source/ptb.train.txt valid_text=$source/ptb.valid.txt test_text=$source/ptb.test.txt counts=(929589 73760 82430)
make_corpus() { take; }
