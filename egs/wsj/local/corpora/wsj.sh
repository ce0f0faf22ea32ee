# The Wall Street Journal corpora: si284, dev93, eval92.
# shellcheck shell=bash disable=SC2034,SC2154
needs wsj0 wsj1
unused fsdd split speechocean librispeech train_parts train_dir dev_dir
[ -z "$incomplete" ] || name=${name:-wsj-incomplete}
locate() { train_dir=$data/train_si284 dev_dir=$data/test_dev93 test_dirs=${test_dirs:-$data/test_eval92}; }
make_corpus() {
    python local/make_wsj.py "$wsj0" "$wsj1" "$data" ${incomplete:+--incomplete}
}
