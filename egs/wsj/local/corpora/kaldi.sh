# The user's own data directories.
# shellcheck shell=bash disable=SC2034,SC2154
unused fsdd split wsj0 wsj1 speechocean librispeech train_parts incomplete
locate() { [ -n "$train_dir" ] && [ -n "$dev_dir" ] && [ -n "$test_dirs" ] || fail "--corpus kaldi needs --train-dir, --dev-dir and --test-dirs"; }
make_corpus() { echo "data directories as given: $train_dir $dev_dir $test_dirs"; }
