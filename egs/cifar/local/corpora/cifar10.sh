# CIFAR-10 as its authors publish it.
# shellcheck shell=bash disable=SC2034,SC2154
needs source
unused classes label_column
note=${note:-"CIFAR-10."}
make_corpus() { make_sets cifar10 ${download:+--download}; }
