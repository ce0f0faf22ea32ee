# Folders train, test and optionally dev, each with one folder of images for each class.
# shellcheck shell=bash disable=SC2034,SC2154
conf=${conf:-conf/cifar10}
make_corpus() { make_sets folder; }
