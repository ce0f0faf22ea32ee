# How jobs run, in Kaldi's calling convention: $train_cmd [--max-jobs-run N] [JOB=1:N] LOG COMMAND [ARG ...]
# run.py runs them on this machine. For a Slurm cluster, write into the recipe's cmd.sh (see utils/slurm.py):
#   train_cmd="slurm.py --gpu 1 --num-threads 4 --time 24:00:00"
#   decode_cmd="slurm.py --num-threads 1"
# --nj is the number of jobs that may run at once. With --ranks N a training runs in N processes, each on its own GPU or core;
# with slurm.py --nodes M it runs N processes on each of M nodes.
# shellcheck shell=bash disable=SC2034
train_cmd=run.py
decode_cmd=run.py
