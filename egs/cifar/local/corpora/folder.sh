# Folders train, test and optionally dev, each with one folder of images for each class.
# shellcheck shell=bash disable=SC2034,SC2154
[ -n "$source" ] || fail "--corpus folder needs --source DIR, see README.md"
unused download classes label_column
conf=${conf:-conf/cifar10}
# The other methods of the table need a given number of labels, or the paper's images.
methods=${methods:-baseline data_aug irl_batching irl_loss}
make_corpus() { make_sets folder; }
# With few images, batches are smaller than the configuration says.
locate() {
    local images batch
    images=$({ find -L "$source/train" -mindepth 2 -type f 2>/dev/null || true; } | wc -l)
    images=$((images - ${dev_images:-$((images / 10))}))
    batch=$(python -m irl.bin.show_config "$conf/irl_batching.yaml" --key train.batch_size)
    [ "$images" -gt 1 ] && [ "$images" -lt "$batch" ] && [[ $overrides != *train.batch_size=* ]] || return 0
    batch=$((images < 8 ? 2 : images / 4))
    echo "train.batch_size=$batch, for there are only $images training images; --overrides \"train.batch_size=N\" changes it"
    overrides="train.batch_size=$batch $overrides"
}
