# speechocean762: English sentences read by 250 speakers of Mandarin, half of them children; nobody is in two sets.
# shellcheck shell=bash disable=SC2034,SC2154
needs speechocean
unused fsdd split wsj0 wsj1 librispeech train_parts
note=${note:-"Read English of unseen speakers (speechocean762), 16 kHz."}
[ -z "$incomplete" ] || name=${name:-speechocean-incomplete}
make_corpus() {
    python local/make_speechocean.py "$speechocean" "$data" ${incomplete:+--incomplete}
}
