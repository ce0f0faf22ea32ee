# Put the repository's Python and the shared helpers on PATH. run.sh sources this file.
# shellcheck shell=bash
root=$(cd ../.. && pwd)
[ -x "$root/.venv/bin/python" ] && PATH=$root/.venv/bin:$PATH
export PATH=$root/utils:$PATH PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} LC_ALL=C.UTF-8
# One thread for each job: at these sizes parallel jobs are faster than threads, and results are equal to the bit.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE
# glibc keeps freed memory, so that a training step does not fetch the same pages again; this saves an eighth of the step at
# this recipe's size. Blocks of 32 MB and more are returned. If they were kept, a full-size model would leave holes that triple
# the memory, for a step 8 % faster.
export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-8589934592} MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-33554432}
