# Handwritten digits in colour, made on the spot: nothing to download.
# shellcheck shell=bash disable=SC2034,SC2154
note=${note:-"Handwritten digits (UCI) coloured by this recipe: rates on it say nothing about photographs."}
make_corpus() { python local/make_mini.py "$data"; }
