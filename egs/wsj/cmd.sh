# Where this recipe runs its jobs; utils/cmd.sh explains the choices. Set train_cmd and decode_cmd below.
# shellcheck shell=bash source=utils/cmd.sh
. ../../utils/cmd.sh
