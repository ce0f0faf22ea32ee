import numpy as np
import pytest
import torch

from irl.core.output import Output, next_example
from irl.reporting.pairs import measure
from irl.training.layer_stats import LayerPair, layer_norms
from irl.training.running_covariance import RunningCovariance


def test_norms_leave_padding_out():
    hidden = torch.randn(3, 5, 4)
    lens = torch.tensor([5, 2, 1])
    view = Output(torch.zeros(3), {"h": hidden}, {"h": lens})
    expected = np.mean([hidden[i, :n].norm(dim=-1).mean().item() for i, n in enumerate(lens)])
    assert float(layer_norms(view)["h"]) == pytest.approx(expected, rel=1e-6)


def test_the_scale_compares_different_utterances_where_both_have_frames():
    hidden = torch.arange(3.0)[:, None, None].expand(3, 4, 2)
    view = Output(torch.zeros(3), {"h": hidden}, {"h": torch.tensor([4, 2, 3])})
    other = next_example(view)
    assert other.hidden["h"][:, 0, 0].tolist() == [1, 2, 0]
    assert other.lens["h"].tolist() == [2, 2, 3]


def test_padding_is_in_no_distance():
    hidden = torch.full((2, 4, 3), 1e3)
    lens = torch.tensor([4, 1])
    for row, (n, value) in enumerate(zip(lens, (1.0, 2.0))):
        hidden[row, :n] = value
    view = Output(torch.zeros(2, 1), {"h": hidden}, {"h": lens})
    noisy = view._replace(hidden={"h": hidden + 0.5})
    line = measure([LayerPair(view, noisy, {"h": torch.ones(2)})])["h"]
    norm = (1 + 2) / 2 * 3**0.5
    assert line["norm"] == pytest.approx(norm) and line["l2"] == pytest.approx(0.5 * 3**0.5 / norm)
    # Both have their first frame, where one is 1 and the other 2.
    assert line["l2_between"] == pytest.approx(3**0.5 / norm)
    assert (line["jacobian"], line["jacobian_error"]) == (1, 0)


def test_effective_rank_follows_its_definition_in_batches():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)) @ np.diag([5, 3, 1, 0.1, 0, 0]) + 7
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    p = singular[singular > 1e-9] / singular.sum()
    scatter = RunningCovariance()
    for part in np.split(x, 4):
        scatter.add(torch.from_numpy(part))
    assert scatter.effective_rank() == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)


def test_effective_rank_of_a_line_is_one_and_of_collapse_too():
    constant = torch.randn(96).expand(50, 96)
    for x in (torch.arange(9.0)[:, None] * torch.ones(3), torch.ones(5, 3), constant, torch.full((50, 96), 0.1)):
        scatter = RunningCovariance()
        scatter.add(x)
        assert scatter.effective_rank() == pytest.approx(1, abs=1e-3)
