# Files train*.parquet and test*.parquet with columns img{bytes} and label, or fine_label. --classes names the classes; otherwise the
# files do, and where they do not, the classes are those of CIFAR-10.
# shellcheck shell=bash disable=SC2034,SC2154
needs source
unused download
conf=${conf:-conf/cifar10}
make_corpus() {
    lists classes
    make_sets parquet ${classes:+--classes "${classes_list[@]}"} ${label_column:+--label-column "$label_column"}
}
