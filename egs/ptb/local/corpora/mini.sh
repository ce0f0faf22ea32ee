# Python's own manual, from the standard library, without a download.
# shellcheck shell=bash disable=SC2034,SC2154
unused source train_text valid_text test_text
note=${note:-"Python's manual, some 67,000 words of training text: real, but small."}
counts=()
locate() { train_text=$data/train.txt valid_text=$data/valid.txt test_text=$data/test.txt; }
make_corpus() { python local/make_mini.py "$data"; }
