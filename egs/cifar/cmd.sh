# Set train_cmd and decode_cmd below to choose where this recipe's jobs run; utils/cmd.sh explains the choices.
# shellcheck shell=bash source=utils/cmd.sh
. ../../utils/cmd.sh
