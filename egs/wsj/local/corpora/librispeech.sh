# LibriSpeech: train-clean-100 or --train-parts for training; dev-clean and dev-other together as the dev set; both test sets.
# shellcheck shell=bash disable=SC2034,SC2154
needs librispeech
unused fsdd split wsj0 wsj1 speechocean train_dir dev_dir
train_parts=${train_parts:-train-clean-100}
# Different training parts are a different experiment, with its own name: librispeech-clean-100-clean-360.
parts=${train_parts// /}
parts=${parts//train/} all=${incomplete:+-incomplete}
[ "$parts" = -clean-100 ] && parts=
name=${name:-librispeech$parts$all}
locate() { test_dirs=${test_dirs:-$data/test-clean $data/test-other}; }
make_corpus() {
    python local/make_librispeech.py "$librispeech" "$data" \
        "train=${train_parts// /+}" dev=dev-clean+dev-other test-clean test-other ${incomplete:+--incomplete}
}
