# Digit strings from the Free Spoken Digit Dataset, 8 kHz.
# shellcheck shell=bash disable=SC2034,SC2154
note=${note:-"Digit strings of real voices, 8 kHz."}
[ "$split" = index ] || name=${name:-fsdd-$split}
# With one speaker in the test set somebody else must be heard over them.
locate() { [ "$split" = index ] || talkers=("$data/test" "$data/dev"); }
make_corpus() { python local/make_fsdd.py "${fsdd:?--corpus fsdd needs --fsdd DIR, see README.md}" "$data" --split "$split"; }
