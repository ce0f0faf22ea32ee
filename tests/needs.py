"""What a test module needs beside torch, looked up without importing it: each process imports each module of tests."""

import pytest

from irl.core.machine import installed


def needs(*packages):
    """Skip the module where one of the packages is not installed."""
    for package in packages:
        if not installed(package):
            pytest.skip(f"{package} is not installed", allow_module_level=True)
