"""The README's code runs as it is printed."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

README = (Path(__file__).parent.parent / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.S)


class Network(nn.Module):
    """A user's own model, with the layers that the README names."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer4 = nn.Conv2d(4, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.layer4(F.relu(self.stem(x))).mean((2, 3)))


@pytest.mark.parametrize("code", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippet(code):
    model, clean, y = Network(), torch.rand(6, 3, 8, 8), torch.arange(6) % 5
    names = {"F": F, "my_model": model, "clean": clean, "ids": range(6), "epoch": 0, "y": y}
    exec(code, names)
    terms, hidden = names["terms"], names["model"](clean).hidden
    assert list(terms.per_layer) == list(hidden) == ["layer4"] and terms.dist > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_readme_is_short_and_its_links_lead_somewhere():
    assert README.count("\n") <= 150
    for link in re.findall(r"\]\(([^)#]+)", README):
        assert (Path(__file__).parent.parent / link).exists(), link
