# Data directories of the user's own.
# shellcheck shell=bash disable=SC2034,SC2154
make_corpus() { echo "data directories as given: $train_dir $dev_dir $test_dirs"; }
