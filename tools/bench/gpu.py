"""All that concerns a GPU, in one run of less than 8 minutes: checks, speeds, and a short training.

    tools/bench/gpu.sh OUT [--parts NAME ...]

Every part has a process and a time limit of its own, so that a first try on a machine yields whatever it reached. Each
result is at once a line of OUT/gpu.jsonl; after each part OUT/gpu.md is written anew, a table of all. With
`--device cpu --tiny` the same code runs in small anywhere: then nothing but the device is new when it runs on one.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gpu_part

# In order of priority: the function of each part, and its limit in seconds. What comes last gets what time is left.
PARTS = {
    "draws and noise": ("gpu_checks.draws_and_noise", 50),
    "objective": ("gpu_checks.objective", 50),
    "models": ("gpu_checks.models", 60),
    "training loop": ("gpu_checks.training_loop", 90),
    "derivatives, search, attacks": ("gpu_checks.derivatives_search_attacks", 60),
    "peaks": ("gpu_speed.peaks", 40),
    "wide resnet": ("gpu_speed.wide_resnet", 80),
    "language model": ("gpu_speed.language_model", 60),
    "encoder-decoder": ("gpu_speed.encoder_decoder", 70),
    "noise and search": ("gpu_speed.noise_and_search", 50),
    "wide resnet, compiled": ("gpu_speed.compiled", 110),
    "wide resnet, recorded": ("gpu_speed.resnet_recorded", 80),
    "language model, recorded": ("gpu_speed.language_recorded", 40),
    "training": ("gpu_train.training", 110),
}
# A part is not begun with less.
LEAST = 12


def main() -> None:
    args = arguments()
    args.out, args.cifar10 = args.out.resolve(), args.cifar10.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.part:
        run(args)
        return
    # A script that is ended takes its part with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    end = time.monotonic() + args.limit
    gpu_part.write(args.out, {"part": "machine", "what": "begin", "status": "ok", "seconds": 0.0, **machine()})
    for name in args.parts:
        left = end - time.monotonic()
        if left < LEAST:
            row = {"part": name, "what": "all", "status": "skipped", "seconds": 0.0}
            gpu_part.write(args.out, {**row, "skipped": "no time left"})
        else:
            begin(args, name, min(PARTS[name][1] * args.stretch, left))
        (args.out / "gpu.md").write_text(table(gpu_part.rows(args.out)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Checks and speeds of a GPU.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that everything runs")
    parser.add_argument("--limit", type=float, default=470, help="seconds of everything together")
    parser.add_argument("--stretch", type=float, default=1, help="factor on the limits of the parts")
    parser.add_argument("--cifar10", type=Path, default=Path("carry/cifar10"), help="images for the short training")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="NAME")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=60, help=argparse.SUPPRESS)
    return parser.parse_args()


def begin(args: argparse.Namespace, name: str, seconds: float) -> None:
    """One part in a process group of its own, which is ended when its time is up."""
    command = [sys.executable, __file__, str(args.out), "--part", name, "--seconds", f"{seconds:.0f}"]
    command += ["--device", args.device, "--cifar10", str(args.cifar10), *(["--tiny"] if args.tiny else [])]
    log = args.out / f"{name.replace(', ', '-').replace(' ', '-')}.log"
    started, status, note = time.monotonic(), "ok", ""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            if process.wait(seconds):
                status, note = "FAILED", "\n".join(log.read_text(errors="replace").splitlines()[-5:])[-800:]
        except subprocess.TimeoutExpired:
            status, note = "TIME UP", f"after {seconds:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    row = {"part": name, "what": "all", "status": status, "seconds": round(time.monotonic() - started, 1)}
    gpu_part.write(args.out, {**row, **({"error": note} if note else {})})


def run(args: argparse.Namespace) -> None:
    """The part itself."""
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU; --device cpu --tiny tries the script without one")
    module, _, function = PARTS[args.part][0].partition(".")
    with tempfile.TemporaryDirectory() as folder:
        getattr(importlib.import_module(module), function)(gpu_part.Part(args, Path(folder)))


def machine() -> dict[str, Any]:
    """What it ran on."""
    import torch

    found = {"python": sys.version.split()[0], "torch": torch.__version__, "cpus": len(os.sched_getaffinity(0))}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_gib": round(properties.total_memory / 2**30, 1)}
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return found


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| part | what | status | seconds | found |", "|---|---|---|---|---|"]
    for row in rows:
        shown = {k: v for k, v in row.items() if k not in ("part", "what", "status", "seconds")}
        text = "; ".join(f"{key} {_brief(value)}" for key, value in shown.items())
        cells = [row["part"], row["what"], row["status"], f"{row['seconds']:g}", text]
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_brief(v)}" for key, v in value.items()) + "}"
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
