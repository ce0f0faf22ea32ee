#!/usr/bin/env python
"""The paper's structural view on a trained classifier: what small Gaussian noise does to its loss and to its layers,
beside what the derivatives say: local/expansion.py RUN ... --data TEST.npz --out OUT

For each run OUT/expansion.csv and OUT/expansion.png hold, over noise of standard deviation s on normalised images, the
rise of the cross entropy divided by s^2, and beside it Omega_R with the images' labels and with the model's own
prediction as the label; and the squared L2 distance of the last block from its clean noisy copy divided by s^2, beside
Lambda_R. For a smooth network the limit of the rise is 1/2 tr(Hess CE). That of a network of ReLUs, taken by
differentiating twice, leaves the kinks out: then it is Omega_R with the model's own prediction, whatever the labels.
The gap is what the labels make of it: Omega_R with them less Omega_R with the own prediction, of each image.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from irl.core.arguments import Parser, positive
from irl.core.errors import run_command
from irl.core.logging import progress
from irl.data import images
from irl.objective.smoothness import lambda_r, omega_r, squares
from irl.vision.classifier import Classifier

SIZES = (0.01, 0.03, 0.1, 0.2, 0.4)
LIMITS = {
    "omega_labels": "Omega_R, labels",
    "omega_own": "Omega_R, own predictions",
}


@torch.no_grad()
def measure(run: Path, data: Path, count: int, draws: int) -> dict[str, Any]:
    """Means over images, each with the standard error over them."""
    classifier, test = Classifier(run / "checkpoint.pt"), images.read(data)
    model = classifier.model
    sums: dict[str, list[torch.Tensor]] = {}
    for rows in progress(torch.arange(min(count, len(test))).split(100), run.name, unit="batch"):
        x = classifier.statistics.normalise(classifier.inputs(test.images[rows.numpy()]))
        y = torch.from_numpy(test.labels[rows.numpy()])
        clean = model(x)
        last = list(clean.hidden)[-1]
        found = {
            "error": (clean.logits.argmax(1) != y).double(),
            "loss": F.cross_entropy(clean.logits, y, reduction="none"),
        }
        own = clean.logits.softmax(1)
        found["omega_labels"] = omega_r(model, x, y, method="reverse")
        found["omega_own"] = omega_r(model, x, own, method="reverse")
        found["gap"] = found["omega_labels"] - found["omega_own"]
        found["lambda_r"] = lambda_r(model, x, draws=draws, layers=[last])[last]
        for _ in range(draws):
            xi = torch.randn_like(x)
            for s in SIZES:
                # Both signs: what is odd in s, and larger, cancels.
                for sign in (s, -s):
                    noisy = model(x + sign * xi)
                    rise = F.cross_entropy(noisy.logits, y, reduction="none") - found["loss"]
                    moved = squares(noisy.hidden[last] - clean.hidden[last], None)
                    for name, value in ((f"rise {s}", rise), (f"moved {s}", moved)):
                        found[name] = found.get(name, 0) + value / s**2 / (2 * draws)
        for name, value in found.items():
            sums.setdefault(name, []).append(value)
    each = {name: torch.cat(values) for name, values in sums.items()}
    wrong = each["error"] > 0
    each.update({"gap_right": each["gap"][~wrong], "gap_wrong": each["gap"][wrong]})
    return {**{name: (float(v.mean()), float(v.std() / len(v) ** 0.5)) for name, v in each.items()}, "each": each}


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from irl.reporting.figures import save_figure
    from irl.reporting.table_config import read_table_config

    config = read_table_config(None)
    fig, axes = pyplot.subplots(3, len(found), figsize=(4 * len(found), 9.5), layout="constrained", squeeze=False)
    for (name, values), column in zip(found.items(), axes.T):
        for ax, kind, limits in (
            (column[0], "rise", LIMITS),
            (column[1], "moved", {"lambda_r": "Lambda_R"}),
        ):
            means, errors = zip(*(values[f"{kind} {s}"] for s in SIZES))
            ax.errorbar(SIZES, means, errors, marker="o", capsize=3, color="black", label="noise")
            for (key, text), style in zip(limits.items(), ("--", ":")):
                ax.axhline(values[key][0], linestyle=style, label=text, color="black", alpha=0.7)
            ax.set_xscale("log")
            ax.set_xlabel("standard deviation s")
            ax.set_ylim(bottom=0)
            ax.legend(fontsize=8, frameon=False)
        column[0].set_title(config.label(name.rpartition(".")[0]), fontsize=10)
        column[0].set_ylabel("(CE(x + s xi) - CE(x)) / s^2")
        column[1].set_ylabel("|a(x + s xi) - a(x)|^2 / s^2, last block")
        for kind, style in (("right", "-"), ("wrong", "--")):
            gaps = values["each"][f"gap_{kind}"].sort().values
            share = torch.arange(1, len(gaps) + 1) / len(gaps)
            column[2].plot(gaps, share, style, color="black", label=f"{kind}: mean {values[f'gap_{kind}'][0]:.2f}")
        column[2].set_xscale("symlog", linthresh=0.1)
        column[2].set_xlabel(f"gap of an image; mean of all {values['gap'][0]:.3f} ± {values['gap'][1]:.3f}")
        column[2].set_ylabel("share of the images classified")
        column[2].legend(fontsize=8, frameon=False)
    save_figure(fig, path)


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", type=Path, nargs="+", help="directories METHOD.SEED with a checkpoint")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=positive, default=500)
    parser.add_argument("--draws", type=positive, default=8, help="for each image, each with both signs")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    found = {run.name: measure(run, args.data, args.images, args.draws) for run in args.runs}
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "expansion.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "value", "mean", "standard_error"])
        for name, values in found.items():
            rows = {key: value for key, value in values.items() if key != "each"}
            writer.writerows([name, key, f"{mean:.6g}", f"{error:.3g}"] for key, (mean, error) in rows.items())
    draw(found, args.out / "expansion")
    print(f"values: {args.out / 'expansion.csv'}   figure: {args.out / 'expansion.png'}")


if __name__ == "__main__":
    run_command(main)
