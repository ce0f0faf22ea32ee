"""Rows of other papers, each against its own paper's formula written out."""

from pathlib import Path

import pytest
import torch
from needs import needs
from tiny import ROOT
from torch.nn import functional as F
from words import settings

from irl.language.task import LanguageTask
from irl.training.task import BatchSpec

needs("lightning_fabric")


def test_activation_regularisation_of_the_last_layer(inside):
    task = LanguageTask(settings("baseline", "ar=2", "tar=1", "model.dropout=0"))
    batch = task.make(0, BatchSpec(0, True, 0))
    terms = task.module(batch, "paired", 0)
    plain = LanguageTask(settings("baseline", "model.dropout=0")).module(batch, "paired", 0)
    assert terms.clean == plain.clean and plain.extra == {}
    h = task.module.model.read(batch.clean, task.module.model.first_state(8))[0].hidden["rnn.1"]
    ar, tar = h.square().mean(), (h[:, 1:] - h[:, :-1]).square().mean()
    torch.testing.assert_close((terms.extra["ar"], terms.extra["tar"]), (ar, tar))
    torch.testing.assert_close(terms.total, plain.total + batch.y.shape[1] * (2 * ar + tar))
    assert task.module(batch, "clean", 0).extra == {}


def fraternal(a, b, y):
    """Zolna et al. 2018: the mean of both losses, and 0.15 times the mean squared difference of the logits."""
    losses = [F.cross_entropy(x.flatten(0, 1), y.flatten()) for x in (a, b)]
    return sum(losses) / 2 + 0.15 * (a - b).square().mean()


def r_drop(a, b, y):
    """Half of Liang et al. 2021, who sum the losses: with their weight of the divergence 1."""
    losses = [F.cross_entropy(x.flatten(0, 1), y.flatten()) for x in (a, b)]
    p, q = a.softmax(-1), b.softmax(-1)
    divergences = [(p * (p.log() - q.log())).sum(-1).mean(), (q * (q.log() - p.log())).sum(-1).mean()]
    return (sum(losses) + sum(divergences) / 2) / 2


@pytest.mark.parametrize("plain", [fraternal, r_drop])
def test_two_dropout_masks_of_the_same_words(inside, plain):
    method = (ROOT / "egs/ptb/conf/methods" / f"{plain.__name__}.yaml").read_text()
    base = (ROOT / "egs/ptb/conf/methods/fraternal.yaml").read_text().replace("_blank", "")
    Path("fraternal.yaml").write_text(base)
    Path(f"{plain.__name__}.yaml").write_text(method.replace("_blank", ""))
    task = LanguageTask(settings(plain.__name__, "model.dropout=0.4", "model.init=1.0", "sum_over_time=false"))
    module, batch = task.module.double(), task.make(0, BatchSpec(0, True, 1))
    assert torch.equal(batch.clean, batch.noisy[0]), "no word is replaced"
    torch.manual_seed(3)
    ours = module(batch, "paired", 0).total
    torch.manual_seed(3)
    both = torch.cat([batch.clean, batch.noisy[0]])
    a, b = module.model.read(both, module.model.first_state(len(both)))[0].logits.chunk(2)
    assert (a - b).abs().max() > 0.1, "but dropout differs"
    expected = plain(a, b, batch.y)
    torch.testing.assert_close(ours, expected)
    weight = module.model.output.weight
    torch.testing.assert_close(*(torch.autograd.grad(x, weight)[0] for x in (ours, expected)))
