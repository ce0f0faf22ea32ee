"""A training loop as in timm's train.py, with the IRL loss:

    python timm_images.py FOLDER [--method irl_batching] [--images 4000] [--epochs 4] [--seed 1]

FOLDER holds CIFAR-10 as published in parquet: train-00000-of-00001.parquet and test-00000-of-00001.parquet. Lines that
the IRL loss adds to the loop are marked. The last lines printed are the test error on clean images and under two noises
that training does not use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from timm import create_model
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import AverageMeter, random_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from irl import L2, Cosine, IRLLoss, tap
from irl.data.image_parquet import from_parquet
from irl.noise import image_noise

MEAN, STD = torch.tensor([0.491, 0.482, 0.447]).view(3, 1, 1), torch.tensor([0.247, 0.243, 0.262]).view(3, 1, 1)
DISTANCE = 0.3 * L2("mean") + 3.0 * Cosine()
METHODS = {
    "baseline": IRLLoss.preset("baseline"),
    "irl_batching": IRLLoss.preset("irl_batching"),
    "irl_loss": IRLLoss.preset("irl_loss", distance=DISTANCE, warmup=100),
}
# Of images in [0, 1]. Training uses the first alone.
TRAIN_NOISE = image_noise(brightness=0.5, contrast=0.5, scale=1)
TEST_NOISES = {
    "none": None,
    "colours": image_noise(saturation=0.9, hue=0.3, scale=1, clip=True),
    "gaussian": image_noise(gaussian=0.05, scale=1, clip=True),
}


class Flipped(Dataset):
    """(image, label), every other time mirrored, and moved by up to 4 pixels."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = nn.functional.pad(images, (4, 4, 4, 4)), labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        top, left, flip = (int(torch.randint(n, ())) for n in (9, 9, 2))
        image = self.images[i, :, top : top + 32, left : left + 32]
        return image.flip(2) if flip else image, self.labels[i]


def normalise(x: Tensor) -> Tensor:
    return ((x - MEAN) / STD).contiguous(memory_format=torch.channels_last)


def train(images: Tensor, labels: Tensor, method: str, seed: int, epochs: int, batch_size: int = 64) -> nn.Module:
    """images: (N, 3, 32, 32) in [0, 1]; labels: int64 (N,)."""
    random_seed(seed)
    net = create_model("resnet10t", num_classes=int(labels.max()) + 1, channels=(32, 64, 128, 256))
    net.maxpool = nn.Identity()  # small images
    net = net.to(memory_format=torch.channels_last)
    model, irl_loss = tap(net, ["layer4"]), METHODS[method]  # added
    loader = DataLoader(Flipped(images, labels), batch_size, shuffle=True, drop_last=True)
    optimizer = create_optimizer_v2(net, opt="sgd", lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=epochs, warmup_epochs=1, warmup_lr=0.01, step_on_epochs=False,
        updates_per_epoch=len(loader),
    )  # fmt: skip
    task_loss, updates = nn.CrossEntropyLoss(), 0
    for epoch in range(epochs):
        model.train()
        losses, distances = AverageMeter(), AverageMeter()
        for input, target in loader:
            noisy = TRAIN_NOISE(input, epoch=epoch, seed=seed)  # added
            # Was: loss = task_loss(net(normalise(input)), target)
            terms = irl_loss(
                model, normalise(input), [normalise(noisy)], lambda view: task_loss(view.logits, target), step=updates
            )
            optimizer.zero_grad()
            terms.total.backward()
            optimizer.step()
            updates += 1
            scheduler.step_update(updates)
            losses.update(terms.total.item(), len(input))
            distances.update(terms.dist.item(), len(input))
        print(f"epoch {epoch}: loss {losses.avg:.3f}, distance {distances.avg:.3f}", flush=True)
    return model.remove()


@torch.no_grad()
def errors(net: nn.Module, images: Tensor, labels: Tensor, condition: str) -> np.ndarray:
    """1 where the network is wrong under one of TEST_NOISES, (N,)."""
    net.eval()
    noise, wrong = TEST_NOISES[condition], []
    for first in range(0, len(labels), 500):
        x, ids = images[first : first + 500], range(first, first + len(images[first : first + 500]))
        x = x if noise is None else noise(x, ids=ids, epoch=0)
        wrong.append(net(normalise(x)).argmax(1) != labels[first : first + 500])
    return torch.cat(wrong).numpy().astype(np.int64)


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) in [0, 1] and labels (N,)."""
    found = from_parquet(folder / f"{part}-00000-of-00001.parquet", [str(i) for i in range(10)])
    return torch.from_numpy(found.images).permute(0, 3, 1, 2) / 255, torch.from_numpy(found.labels)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--method", choices=METHODS, default="irl_loss")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    images, labels = read(args.folder, "train")
    net = train(images[: args.images], labels[: args.images], args.method, args.seed, args.epochs)
    test = read(args.folder, "test")
    for condition in TEST_NOISES:
        print(f"{condition}: {100 * errors(net, *test, condition).mean():.1f} % errors")


if __name__ == "__main__":
    main()
