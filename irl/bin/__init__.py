"""The commands: one file each, run as `irl NAME ...` or `python -m irl.bin.NAME ...`."""
