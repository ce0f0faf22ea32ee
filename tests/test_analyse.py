import numpy as np
import pytest
import torch

from irl.analyse import next_utterance
from irl.tasks.base import layer_norms
from irl.types import Output


def test_norms_leave_padding_out():
    hidden = torch.randn(3, 5, 4)
    lens = torch.tensor([5, 2, 1])
    view = Output(torch.zeros(3), {"h": hidden}, {"h": lens})
    expected = np.mean([hidden[i, :n].norm(dim=-1).mean().item() for i, n in enumerate(lens)])
    assert float(layer_norms(view)["h"]) == pytest.approx(expected, rel=1e-6)


def test_the_scale_compares_different_utterances_where_both_have_frames():
    hidden = torch.arange(3.0)[:, None, None].expand(3, 4, 2)
    view = Output(torch.zeros(3), {"h": hidden}, {"h": torch.tensor([4, 2, 3])})
    other = next_utterance(view)
    assert other.hidden["h"][:, 0, 0].tolist() == [1, 2, 0]
    assert other.lens["h"].tolist() == [2, 2, 3]
