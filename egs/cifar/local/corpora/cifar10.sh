# CIFAR-10 as its authors publish it.
# shellcheck shell=bash disable=SC2034,SC2154
note=${note:-"CIFAR-10."}
make_corpus() { make_sets cifar10 ${download:+--download}; }
