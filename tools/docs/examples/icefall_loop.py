"""A training loop in icefall's manner, on lhotse's cuts, with the IRL loss or with CR-CTC's settings of it:

    python icefall_loop.py CUTS NOISES [--method cr_ctc] [--epochs 10]

CUTS: a manifest of lhotse (cuts.jsonl.gz) whose supervisions have texts. NOISES: a folder of recordings. The model is a
small CTC recogniser of characters. What the IRL loss changes in the loop is marked.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from lhotse import CutSet, Fbank, FbankConfig, load_manifest
from lhotse.dataset import DynamicBucketingSampler, SpecAugment
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from irl import KL, L2, Cosine, IRLLoss, tap
from irl.integrations.lhotse import PairedCuts
from irl.noise import additive

METHODS = {
    # Pairs of a cut and its noisy copy. The distance begins when the model has begun to learn.
    "irl_batching": IRLLoss.preset("irl_batching"),
    "irl_loss": IRLLoss.preset("irl_loss", layers=["encoder"], distance=0.3 * L2("mean") + 0.3 * Cosine(), warmup=1000),
    # Yao et al. 2024: two copies with other masks, no clean one; the posteriors, with constant targets.
    "cr_ctc": IRLLoss(
        alpha=0, beta=1, gamma=0.2, pairs="noisy", layers=["logits"], warmup=1000,
        distance=KL(symmetric=True, detach_target=True),
    ),
}  # fmt: skip


class Recogniser(nn.Module):
    def __init__(self, tokens: int, mels: int = 40, units: int = 96) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Conv1d(mels, units, 5, 2, 2), nn.GELU(), nn.Conv1d(units, units, 3, 1, 1))
        layer = nn.TransformerEncoderLayer(units, 4, 2 * units, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(units), enable_nested_tensor=False)
        self.ctc = nn.Linear(units, tokens)

    def forward(self, x: Tensor, lens: Tensor) -> Tensor:
        """x: (N, T, mels); lens: int64 (N,) -> scores (N, (T + 1) // 2, tokens)."""
        h = self.embed(x.mT).mT
        padding = torch.arange(h.shape[1]) >= frames(lens)[:, None]
        scores: Tensor = self.ctc(self.encoder(h, src_key_padding_mask=padding))
        return scores


def frames(lens: Tensor) -> Tensor:
    return (lens + 1) // 2


class MetricsTracker(dict[str, float]):
    """Sums, divided once: as icefall's."""

    def update_sums(self, **values: float) -> None:
        for name, value in values.items():
            self[name] = self.get(name, 0.0) + value

    def __str__(self) -> str:
        return ", ".join(f"{k} {v / self['cuts']:.3f}" for k, v in self.items() if k != "cuts") + " a cut"


def compute_loss(
    method: str, model: nn.Module, batch: Any, tokens: dict[str, int], augment: Any, step: int
) -> tuple[Tensor, MetricsTracker]:
    clean, [noisy] = batch
    supervisions = clean["supervisions"]
    order = supervisions["sequence_idx"].long()
    lens = torch.zeros(len(clean["inputs"]), dtype=torch.int64).scatter(0, order, supervisions["num_frames"].long())
    targets = [torch.tensor([tokens[c] for c in text]) for text in supervisions["text"]]
    y, y_lens = torch.cat(targets), torch.tensor([len(t) for t in targets])

    def ctc_loss(view: Any) -> Tensor:
        scores = view.logits[order].log_softmax(-1).transpose(0, 1)
        loss: Tensor = F.ctc_loss(scores, y, frames(lens[order]), y_lens, reduction="sum", zero_infinity=True)
        return loss / len(order)

    # Changed: icefall's loop has one view, x, and CR-CTC's loop stacks two by hand.
    x = clean["inputs"]
    copies = [augment(x.clone()), augment(x.clone())] if method == "cr_ctc" else [noisy["inputs"]]
    terms = METHODS[method](model, (x, lens), [(copy, lens) for copy in copies], ctc_loss, step=step)
    info = MetricsTracker(cuts=len(x))
    info.update_sums(loss=len(x) * terms.total.item(), dist=len(x) * terms.dist.item())
    return terms.total, info


def train(cuts: CutSet, noises: str, method: str, epochs: int, max_duration: float = 60.0) -> nn.Module:
    """Returns the recogniser; `.tokens` has its characters."""
    torch.manual_seed(1)
    tokens = {c: i for i, c in enumerate(sorted({c for cut in cuts for s in cut.supervisions for c in s.text}), 1)}
    rate = next(iter(cuts)).sampling_rate
    features = Fbank(FbankConfig(sampling_rate=rate, num_mel_bins=40))
    pairs = PairedCuts(additive(noises, rate=rate, snr=(0, 15)), features=features)  # was: K2SpeechRecognitionDataset
    sampler = DynamicBucketingSampler(cuts, max_duration=max_duration, num_buckets=2, shuffle=True)
    loader = DataLoader(pairs, sampler=sampler, batch_size=None)
    augment = SpecAugment(time_warp_factor=0, features_mask_size=10, max_frames_mask_fraction=0.2, p=1.0)
    net = Recogniser(1 + len(tokens))
    net.tokens = "".join(tokens)
    model = tap(net, ["encoder"], lens=lambda inputs, output: frames(inputs["lens"]))  # added
    optimizer, step = torch.optim.AdamW(net.parameters(), 1e-3), 0
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        pairs.set_epoch(epoch)  # added
        model.train()
        total = MetricsTracker()
        for batch in loader:
            loss, info = compute_loss(method, model, batch, tokens, augment, step)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            total.update_sums(**info)
            step += 1
        print(f"epoch {epoch}: {total}", flush=True)
    return model.remove()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cuts")
    parser.add_argument("noises")
    parser.add_argument("--method", choices=METHODS, default="irl_loss")
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    net = train(load_manifest(args.cuts), args.noises, args.method, args.epochs)
    torch.save(net.state_dict(), "icefall_loop.pt")


if __name__ == "__main__":
    main()
