# How jobs are run, in Kaldi's calling convention: $train_cmd [--max-jobs-run N] [JOB=1:N] LOG COMMAND [ARG ...]
# shellcheck shell=bash disable=SC2034
train_cmd=run.py
decode_cmd=run.py
