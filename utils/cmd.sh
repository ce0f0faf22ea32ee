# How jobs are run, in Kaldi's calling convention: $train_cmd [--max-jobs-run N] [JOB=1:N] LOG COMMAND [ARG ...]
# On this machine by run.py. On a Slurm cluster, in a recipe's cmd.sh (see utils/slurm.py):
#   train_cmd="slurm.py --gpu 1 --num-threads 4 --time 24:00:00"
#   decode_cmd="slurm.py --num-threads 1"
# --nj then says how many jobs may run at once. With --ranks N a training runs in N processes, a GPU or a core each (of
# every node, with slurm.py --nodes M).
# shellcheck shell=bash disable=SC2034
train_cmd=run.py
decode_cmd=run.py
