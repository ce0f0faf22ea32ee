#!/usr/bin/env bash
# Checks and speeds of a GPU in less than 8 minutes: tools/bench/gpu.sh OUT [--device cpu --tiny]
# It needs torch and what setup.cfg lists for `train`, soundfile, scipy and rapidfuzz; without .venv it takes python3, or
# $PYTHON, as it finds them.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: $0 OUT [options of gpu.py]" >&2; exit 2; }
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v "$python" || command -v python3)
export PYTHONPATH="$root:$root/tests${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$root/tools/bench/gpu.py" "$@"
