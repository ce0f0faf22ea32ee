import pytest
import torch

from irl.core.output import Output


def test_views_are_the_rows_of_each_and_so_are_their_gradients():
    x, extra = torch.randn(6, 4, requires_grad=True), torch.randn(6, 2, 3)
    views = Output(x * 2, {"h": x}, {"h": torch.arange(6)}, {"e": extra}).views(3)
    for i, view in enumerate(views):
        rows = slice(2 * i, 2 * i + 2)
        assert torch.equal(view.logits, 2 * x[rows]) and torch.equal(view.extra["e"], extra[rows])
        assert view.lens["h"].tolist() == [2 * i, 2 * i + 1]
    # A view that no term looks at has gradient zero.
    (views[0].hidden["h"].sum() + 5 * views[2].logits.sum()).backward()
    assert x.grad[:, 0].tolist() == [1, 1, 0, 0, 10, 10]


@pytest.mark.parametrize("logits", [torch.zeros(()), torch.zeros(5, 2)])
def test_outputs_without_a_row_for_each_sample_are_refused(logits):
    with pytest.raises(ValueError, match="must have one row a sample"):
        Output(logits, {}).views(2)
