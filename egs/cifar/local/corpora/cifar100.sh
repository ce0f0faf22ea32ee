# CIFAR-100 as its authors publish it.
# shellcheck shell=bash disable=SC2034,SC2154
needs source
unused classes label_column
note=${note:-"CIFAR-100."}
eps=${eps:-"0.1 0.4"}
make_corpus() { make_sets cifar100 ${download:+--download}; }
