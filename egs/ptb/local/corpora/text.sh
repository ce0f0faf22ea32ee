# Any three files of words between spaces.
# shellcheck shell=bash disable=SC2034,SC2154
unused source
conf=${conf:-conf/small}
counts=()
make_corpus() { take; }
