# speechocean762: English sentences read by 250 speakers of Mandarin, half of them children; nobody is in two sets.
# shellcheck shell=bash disable=SC2034,SC2154
note=${note:-"Read English of unseen speakers (speechocean762), 16 kHz."}
[ -z "$incomplete" ] || name=${name:-speechocean-incomplete}
make_corpus() {
    python local/make_speechocean.py "${speechocean:?--corpus speechocean needs --speechocean DIR}" "$data" ${incomplete:+--incomplete}
}
