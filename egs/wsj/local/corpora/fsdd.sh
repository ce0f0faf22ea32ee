# Digit strings from the Free Spoken Digit Dataset, 8 kHz.
# shellcheck shell=bash disable=SC2034,SC2154
needs fsdd
unused wsj0 wsj1 speechocean librispeech train_parts incomplete
split=${split:-index}
note=${note:-"Digit strings of real voices, 8 kHz."}
[ "$split" = index ] || name=${name:-fsdd-${split/:/-}}
# The test set has one speaker, so the overlapping speech also comes from the dev speaker.
locate() { [ "$split" = index ] || talkers=("$data/test" "$data/dev"); }
make_corpus() { python local/make_fsdd.py "$fsdd" "$data" --split "$split"; }
