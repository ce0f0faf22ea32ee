# Synthetic speech, made on the spot: nothing to download.
# shellcheck shell=bash disable=SC2034,SC2154
note=${note:-"Synthetic speech (eSpeak NG, 20 voices): rates on it say nothing about real speech."}
locate() { talkers=("$data/talkers"); }
make_corpus() { python local/make_mini.py "$data" --nj "$nj"; }
