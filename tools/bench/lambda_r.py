"""What Lambda_R costs as a term of training a wide residual network, beside the sampled distance.

Each is a whole update of `irl train`, data included. "forward" takes the term along one drawn tangent, values and
tangents stacked by hand, "reverse" by a projection for each layer; of the last group of blocks, as in the recipe, or of
all blocks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness import Report, alternate, arguments, median_interval, parse
from wide_resnet import make_step, prepare

from irl.training.config import SmoothnessConfig

LAST = "group3.block0"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parse(parser)
    args.device, args.precision, args.copies = "cpu", "32-true", 1
    report = Report(f"Lambda_R as a term of training WRN-{args.depth}-{args.width}", args)
    terms = {
        "baseline + Lambda_R forward, last group": SmoothnessConfig(lambda_r=1e-3, from_layer=LAST),
        "baseline + Lambda_R reverse, last group": SmoothnessConfig(lambda_r=1e-3, from_layer=LAST, method="reverse"),
        "baseline + Lambda_R forward, all blocks": SmoothnessConfig(lambda_r=1e-3),
        "baseline + Lambda_R reverse, all blocks": SmoothnessConfig(lambda_r=1e-3, method="reverse"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, args)
        steps = {row: make_step(args, row, folder) for row in ("baseline", "irl_batching", "irl_loss")}
        steps.update({row: make_step(args, "baseline", folder, term) for row, term in terms.items()})
        seconds = alternate(steps, args.rounds, label="updates")
    report.say(f"Batches of {args.batch_size}; one noisy copy, and the distance on the last group of blocks.")
    report.table(seconds, "baseline", args.batch_size, "images/s")
    own = next(iter(terms))
    report.say(f"Time of {own} / time of IRL loss: {median_interval(seconds[own] / seconds['irl_loss'])}.")
    report.close()


if __name__ == "__main__":
    main()
