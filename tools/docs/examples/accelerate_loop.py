"""A loop of Hugging Face's Accelerate with the IRL loss: python accelerate_loop.py [--steps 100]

Nothing is special: prepare the tapped model as your own. Data are points of two classes, so that it runs at once;
`accelerate launch --num_processes 2 --cpu accelerate_loop.py` runs it on two processes.
"""

from __future__ import annotations

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from irl import IRLLoss, tap


def points(count: int = 512) -> TensorDataset:
    """Twenty numbers, of which the first two tell the class."""
    x = torch.randn(count, 20, generator=torch.Generator().manual_seed(0))
    return TensorDataset(x, (x[:, 0] + x[:, 1] > 0).long())


def noise(x: torch.Tensor) -> torch.Tensor:
    return x + 2 * F.pad(torch.randn(len(x), 18), (2, 0)).to(x.device)


def train(steps: int, irl_loss: IRLLoss, accumulation: int = 2, cpu: bool = True) -> nn.Module:
    set_seed(1)
    accelerator = Accelerator(cpu=cpu, gradient_accumulation_steps=accumulation)
    net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 2))
    model = tap(net, ["1"])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    loader = DataLoader(points(), 32, shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    step = 0
    while step < steps:
        for x, y in loader:
            with accelerator.accumulate(model):
                terms = irl_loss(model, x, [noise(x)], lambda view: F.cross_entropy(view.logits, y), step=step)
                accelerator.backward(terms.total)
                optimizer.step()
                optimizer.zero_grad()
            step += 1
    accelerator.print(f"task loss {terms.clean:.2f}, distance {terms.dist:.3f}")
    own: nn.Module = accelerator.unwrap_model(model).remove()
    accelerator.save(own.state_dict(), "accelerate_loop.pt")
    return own


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=100)
    args = parser.parse_args()
    train(args.steps, IRLLoss(warmup=args.steps // 2))


if __name__ == "__main__":
    main()
