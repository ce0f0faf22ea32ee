"""Additions to the plan of a speech table: noisy test sets, a language model, tuned weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from irl.core.arguments import positive
from irl.core.errors import UserError
from irl.core.machine import installed
from irl.reporting.results import run_fingerprint
from irl.speech import conditions, search_options
from irl.speech.conditions import GENERATED
from irl.speech.config import SpeechConfig
from irl.speech.search_options import SearchOptions
from irl.training.modality import Planned
from irl.training.registry import modality, read_config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--test-dirs", type=Path, nargs="+", required=True, help="data directories of the test sets")
    parser.add_argument("--noisy", type=Path, default=Path("noisy"), help="noisy copies of the test sets")
    parser.add_argument("--musan", default="", help="bank in MUSAN's layout; tests use its part `test`")
    parser.add_argument("--rirs", default="", help="bank in RIRS_NOISES' layout; tests use its part `test`")
    parser.add_argument("--noises", default="", help="folder of recorded noises, for the condition real_noise")
    parser.add_argument("--rooms", default="", help="folder of impulse responses, for the condition real_rooms")
    parser.add_argument("--made-bank", default="", help="generated bank, used where --musan or --rirs is not given")
    parser.add_argument("--test-copies", type=positive, default=1, help="noisy copies of each test utterance")
    search_options.add_arguments(parser)
    parser.add_argument("--lm", type=Path, help="configuration of a language model; it is trained in OUT/lm")
    parser.add_argument("--lm-overrides", nargs="*", default=[], metavar="key=value")
    parser.add_argument("--tune", type=Path, nargs="*", default=[], help="dev data for tuning the decoding weights")
    parser.add_argument("--weights", type=Path, default=Path("weights.json"), help="file of the tuned weights")


def test_sets(args: argparse.Namespace) -> tuple[list[str], list[tuple[Path, Path, str]]]:
    """The conditions NAME=DATA_DIR, and the noisy copies to be made: (test set, copy, kind of noise). A test set itself
    is `none`; of several the names are SET:CONDITION."""
    names = [path.name for path in args.test_dirs]
    if len(set(names)) < len(names):
        raise UserError(f"--test-dirs: two test directories have the same name: {' '.join(map(str, args.test_dirs))}")
    for kind in args.conditions:
        conditions.condition(kind)
    named, copies = [], []
    for path in args.test_dirs:
        prefix = f"{path.name}:" if len(names) > 1 else ""
        named.append(f"{prefix}none={path}")
        for kind in args.conditions:
            copy = args.noisy / f"{path.name}_{kind}"
            named.append(f"{prefix}{kind}={copy}")
            copies.append((path, copy, kind))
    return named, copies


def check_search(args: argparse.Namespace, settings: SpeechConfig, options: SearchOptions) -> None:
    """Raises UserError for a search that decoding would refuse, after all training."""
    if not settings.model.ctc and (options.search == "ctc" or options.ctc_weight > 0):
        raise UserError(f"--search {options.search}: model.ctc is false; take --search attention")
    if options.search == "espnet" and not installed("espnet"):
        raise UserError("--search espnet: the package espnet is not installed")
    if args.lm is not None and not options.lm_weight and not args.tune:
        raise UserError("--lm: expected --lm-weight > 0, or --tune, found 0: it would do nothing")


def planned(args: argparse.Namespace) -> Planned:
    settings = read_config(args.conf / f"{args.methods[0]}.yaml", args.overrides)
    pipes = ["--allow-pipes"] if settings.allow_pipes else []
    named, copies = test_sets(args)
    bank = ["--rate", str(settings.features.rate), "--musan", args.musan or args.made_bank]
    bank += ["--part", "test" if args.musan else ""]
    bank += ["--rirs", args.rirs or args.made_bank, "--rirs-part", "test" if args.rirs else ""]
    for kind, option, folder in (("real_noise", "noises", args.noises), ("real_rooms", "rooms", args.rooms)):
        if kind in args.conditions and not folder:
            raise UserError(f"--conditions: {kind} needs --{option} DIR")
        # Training that hears the folder hears its part `train` alone; otherwise all of it is unheard.
        bank += [f"--{option}", folder, f"--{option}-part", "test" if kind in settings.noise.kinds else ""]
    bank += ["--folds", settings.noise.folds, "--copies", str(args.test_copies)]
    bank += ["--rir-channel", str(settings.noise.rir_channel)]
    corrupt = [["corrupt", str(a), str(b), "--condition", kind, *bank, *pipes] for a, b, kind in copies]
    options = search_options.from_arguments(args)
    check_search(args, settings, options)
    decode: dict[str, Any] = options.named()
    evaluate = [*search_options.to_arguments(options), *pipes]
    fields: dict[str, Any] = {"decode": decode}
    needed: dict[str, list[list[str]]] = {"lm": [], "tune": []}
    model = []
    if args.lm is not None:
        lm = read_config(args.lm, args.lm_overrides)
        decode["lm"] = run_fingerprint(lm)
        fields["lm_data"] = "" if args.draft else modality(lm.task, str(args.lm)).train_data(lm)["train_data"]
        needed["lm"] = [["train", str(args.lm), *args.lm_overrides, "--exp", str(args.out / "lm"), "--anew"]]
        model = ["--lm", str(args.out / "lm" / "checkpoint.pt")]
    if args.tune:
        if args.search != "joint":
            raise UserError(f"--tune: only the joint search has weights to tune, got --search {args.search}")
        decode["tuned"] = [path.name for path in args.tune]
        runs = [str(args.out / f"{method}.{args.seeds[0]}" / "checkpoint.pt") for method in args.methods]
        line = ["tune", *runs, "--data", *map(str, args.tune), "--out", str(args.weights), *model]
        needed["tune"] = [[*line, "--beam", str(args.beam), "--nj", str(args.nj), *pipes]]
        needed["tune"][0] += ["--wanted", str(args.lists / "wanted.jsonl")]
        evaluate += ["--tuned", str(args.weights)]
    banks = [args.musan or GENERATED, args.rirs or GENERATED]
    # By name: a results line tells no path of the user's machine.
    banks += [Path(args.noises).name] * ("real_noise" in args.conditions)
    banks += [Path(args.rooms).name] * ("real_rooms" in args.conditions)
    return Planned(
        named,
        {**fields, "banks": banks, "test_copies": args.test_copies},
        [*evaluate, *model],
        ["--banks", *banks, "--test-copies", str(args.test_copies)],
        ["--clean", str(args.test_dirs[0]), "--noisy", str(copies[0][1] if copies else args.test_dirs[0])],
        {"corrupt": corrupt},
        needed,
    )
