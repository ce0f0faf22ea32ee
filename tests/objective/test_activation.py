import pytest
import torch

from irl.objective.activation import ar_and_tar


@pytest.mark.parametrize("lens", [None, torch.tensor([5, 3, 1])])
def test_equals_plain_loops(lens):
    h = torch.randn(3, 5, 4, dtype=torch.float64)
    if lens is not None:
        h[1, 3:], h[2, 1:] = float("nan"), float("inf")
    ar, tar = [], []
    for row, n in zip(h, [5] * 3 if lens is None else lens.tolist()):
        ar.append(sum(float(row[t, j]) ** 2 for t in range(n) for j in range(4)) / (4 * n))
        changes = [float(row[t + 1, j] - row[t, j]) ** 2 for t in range(n - 1) for j in range(4)]
        tar.append(sum(changes) / max(1, len(changes)))
    found = ar_and_tar(h, lens)
    assert [float(x) for x in found] == pytest.approx([sum(ar) / 3, sum(tar) / 3])


def test_constant_states_have_no_change():
    h = torch.randn(2, 1, 3).expand(2, 6, 3)
    assert float(ar_and_tar(h)[1]) == 0
