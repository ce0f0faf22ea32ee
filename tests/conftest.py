"""Shared fixtures. Threads are pinned: tests compare runs to the bit, and CI has two cores."""

import functools
import importlib
import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from refusals import Page, record_refusals  # noqa: E402, F401

from irl.training import checkpoint  # noqa: E402

if not torch.cuda.is_available():
    # Before anything imports Triton: its kernels are then interpreted.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# A shell's background, and nohup, ignore signals, and commands under test would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
torch.set_num_threads(1)
# Times on shared machines say nothing about the code; examples stay the same from run to run.
settings.register_profile("irl", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("irl")


def pytest_collection_modifyitems(items):
    """The folders with the longest files come first, in whatever order within, so that processes beside each other end
    together (with --no-loadscope-reorder)."""
    items.sort(key=lambda item: item.path.parent.name not in ("egs", "training"))


def pytest_addoption(parser):
    parser.addoption("--inputs-page", help="write the bad inputs of these tests and their errors to this file")


def pytest_configure(config):
    if config.getoption("inputs_page") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Page(config.getoption("inputs_page")))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(scope="module")
def recipes_by_task(tmp_path_factory):
    """The small recipe of a task, by its name; built when it is first asked for."""

    @functools.cache
    def folder(name):
        module = {"speech": "tiny", "vision": "pictures", "language": "words"}[name]
        return importlib.import_module(module).build_recipe(tmp_path_factory.mktemp(name))

    return folder


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    return tiny.build_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="session")
def reference(recipe):
    """An undisturbed run of the IRL loss."""
    tiny.run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/reference", cwd=recipe)
    return checkpoint.load(recipe / "exp/reference/checkpoint.pt")
