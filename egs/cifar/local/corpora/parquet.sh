# Files train*.parquet and test*.parquet with columns img{bytes} and label: CIFAR-10, or the classes named by --classes.
# shellcheck shell=bash disable=SC2034,SC2154
conf=${conf:-conf/cifar10}
make_corpus() {
    lists classes
    make_sets parquet ${classes:+--classes "${classes_list[@]}"}
}
