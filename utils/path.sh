# Put the repository's Python and the shared helpers on PATH. Sourced by run.sh.
# shellcheck shell=bash
root=$(cd ../.. && pwd)
[ -x "$root/.venv/bin/python" ] && PATH=$root/.venv/bin:$PATH
export PATH=$root/utils:$PATH PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} LC_ALL=C.UTF-8
# One thread a job: at these sizes jobs side by side are faster than threads, and results are equal to the bit.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=PASSIVE
# Freed memory is kept (glibc): a training step then spends no time on fetching the same pages again, an eighth of it
# at this recipe's size. Blocks of 32 MB and more are given back, or those of a full-size model would leave holes that
# triple the memory, for a step 8 % faster.
export MALLOC_TRIM_THRESHOLD_=${MALLOC_TRIM_THRESHOLD_:-8589934592} MALLOC_MMAP_THRESHOLD_=${MALLOC_MMAP_THRESHOLD_:-33554432}
