"""Parts of the training loop on their own: phases, sums, signals, differences of configurations."""

import os
import signal

import pictures
import pytest
import torch
from needs import needs
from tiny import run

from irl.core.machine import device_name
from irl.training import checkpoint
from irl.training.registry import read_config, saved_config
from irl.training.running_covariance import RunningCovariance
from irl.training.signals import StopSignals
from irl.training.state import differences

needs("lightning_fabric")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pictures.build_recipe(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def trainer(folder, monkeypatch):
    from irl.training.trainer import Trainer

    monkeypatch.chdir(folder)
    return lambda name, *overrides: Trainer(read_config(folder / f"{name}.yaml", list(overrides)), folder / "exp/state")


def test_a_checkpoint_says_where_it_was_trained(trainer):
    state = trainer("irl_loss").state
    content = state.content()
    assert (
        content["device"] == device_name(state.fabric.device)
        and content["versions"]["torch"] == torch.__version__.partition("+")[0]
    )


def test_steps_are_counted_within_their_phase(trainer):
    state = trainer("irl_loss").state
    assert [state.phase_at(step) for step in (0, 3, 4, 11)] == [
        ("clean", 0),
        ("clean", 3),
        ("paired", 0),
        ("paired", 7),
    ]


def test_a_running_covariance_draws_noise_in_the_paired_phase_alone(trainer):
    """Also where gamma is 0 in both phases."""
    smooth = ["objective.beta=0", "objective.alpha=1", "smoothness.omega_r=1", "smoothness.sigma=diagonal"]
    task = trainer("irl_batching", *smooth).task
    assert (task.spec(0, "clean").noisy, task.spec(0, "paired").noisy) == (0, 1)


def test_a_checkpoint_of_another_configuration_names_the_key(folder):
    run("irl.bin.train", "irl_loss.yaml", "--exp", "exp/other", "--stop", 1, cwd=folder)
    done = run("irl.bin.train", "irl_loss.yaml", "train.batch_size=4", "--exp", "exp/other", cwd=folder, check=False)
    assert done.returncode == 1 and "was trained with train.batch_size 8, this run has 4; use another" in done.stderr
    assert list(differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 3}})) == [("a.b", 1, 3), ("c", 2, None)]


def test_a_checkpoint_with_old_names_goes_on_and_is_evaluated(folder, trainer):
    """Runs of earlier versions are not lost: what was renamed since is read under its new name."""
    settings = ["objective.pairs=in_batch", "objective.stop_grad=none"]
    state = trainer("irl_loss", *settings).state
    state.lr_scale = 0.5
    state.save()
    old = torch.load(state.path, weights_only=True)
    old["slowed"], old["carried"] = old.pop("lr_scale"), old.pop("hidden_state")
    old["config"]["objective"]["pairs"] = "others"
    torch.save(old, state.path)
    resumed = trainer("irl_loss", *settings).state
    resumed.resume()
    assert resumed.lr_scale == 0.5
    assert saved_config(checkpoint.load(state.path), state.path).objective.pairs == "in_batch"


def test_signals_only_set_a_flag_and_handlers_come_back():
    before = signal.getsignal(signal.SIGUSR1)
    with StopSignals() as signals:
        assert signals.in_any_process() == 0
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signals.in_any_process() == signal.SIGUSR1
    assert signal.getsignal(signal.SIGUSR1) is before


@pytest.mark.parametrize("diagonal", [False, True])
def test_sums_go_through_a_file_to_the_bit(diagonal):
    x = torch.randn(40, 3, generator=torch.manual_seed(0)) + 2
    meter = RunningCovariance(diagonal, centred=False)
    for part in x.split(7):
        meter.add(part)
    again = RunningCovariance.from_sums(*meter.sums())
    assert torch.equal(again.mean, meter.mean) and torch.equal(again.covariance, meter.covariance)
    torch.testing.assert_close(again.std, x.double().std(0, correction=0))
    with pytest.raises(ValueError, match="do not fit"):
        RunningCovariance.from_sums(1, [1.0, 2.0], [1.0, 2.0, 3.0])
