# The environment of this recipe. run.sh sources this file.
# shellcheck shell=bash source=utils/path.sh
. ../../utils/path.sh
