# Folders train and test (perhaps dev) with a folder of images for each class.
# shellcheck shell=bash disable=SC2034,SC2154
conf=${conf:-conf/cifar10}
make_corpus() { make_sets folder; }
