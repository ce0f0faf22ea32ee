# WikiText-2 as published: wiki.{train,valid,test}.tokens.
# shellcheck shell=bash disable=SC2034,SC2154
[ -n "$source" ] || fail "--corpus wikitext2 needs --source DIR, see README.md"
unused train_text valid_text test_text
note=${note:-"WikiText-2."}
train_text=$source/wiki.train.tokens valid_text=$source/wiki.valid.tokens test_text=$source/wiki.test.tokens counts=(2088628 217646 245569)
make_corpus() { take; }
