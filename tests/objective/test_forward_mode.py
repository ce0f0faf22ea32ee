"""LSTMs of plain operations against torch's own, in float64."""

import pytest
import torch
from torch import nn

from irl import Output
from irl.objective import forward_mode
from irl.objective.smoothness import half_curvature, lambda_r, push_forward


@pytest.mark.parametrize("proj_size", [0, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers, bidirectional, batch_first", [(1, False, True), (2, True, False), (3, True, True)])
def test_an_lstm_of_plain_operations(layers, bidirectional, batch_first, bias, proj_size):
    dropout = 0.5 if layers > 1 else 0.0
    model = nn.LSTM(4, 5, layers, bias, batch_first, dropout, bidirectional, proj_size).double().eval()
    x = torch.randn(2, 6, 4, dtype=torch.float64)
    rows = x.shape[1 - batch_first]
    ways = layers * (1 + bidirectional)
    state = [torch.randn(ways, rows, n, dtype=torch.float64) for n in (proj_size or 5, 5)]
    found = forward_mode.lstm(x, state, model._flat_weights, bias, layers, dropout, False, bidirectional, batch_first)
    out, (h, c) = model(x, tuple(state))
    for a, b in zip(found, (out, h, c), strict=True):
        assert a.shape == b.shape and torch.allclose(a, b, atol=1e-12)


def test_on_a_gpu_forward_mode_has_lstms_of_plain_operations(monkeypatch):
    """torch's fused cell of a GPU has no forward derivative."""

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.cell = nn.LSTM(4, 5, batch_first=True), nn.LSTMCell(5, 3)

        def forward(self, x):
            return Output(self.cell(self.lstm(x)[0][:, -1])[0], {})

    model, x, tangent = Both().double(), *torch.randn(2, 3, 6, 4, dtype=torch.float64)
    value, moved = push_forward(model, x, [tangent])
    calls = []
    for name in ("lstm", "lstm_cell"):
        plain = getattr(forward_mode, name)
        monkeypatch.setattr(forward_mode, name, lambda *a, plain=plain, name=name: (calls.append(name), plain(*a))[1])
    monkeypatch.setattr(forward_mode, "_on_gpu", lambda x: True)
    found_value, found = push_forward(model, x, [tangent])
    assert calls == ["lstm", "lstm_cell"]
    for a, b in zip((found_value, *found), (value, *moved)):
        assert torch.allclose(a.logits, b.logits, atol=1e-12)
    lambda_r(model, x, method="exact", layers=["logits"])
    half_curvature(model, x, torch.tensor([0, 1, 2]))
    assert calls == 3 * ["lstm", "lstm_cell"]
