# This recipe's environment; sourced by run.sh.
# shellcheck shell=bash source=utils/path.sh
. ../../utils/path.sh
