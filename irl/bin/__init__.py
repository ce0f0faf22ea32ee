"""The commands: one file each, run as `irl NAME ...` or `irl NAME ...`."""
