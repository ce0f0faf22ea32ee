"""Options of the search, shared by every command line that decodes."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Mapping, get_args

from irl.core.errors import UserError
from irl.core.types import BelowOne, Checked, Count, NonNegative, at_least

Search = Literal["joint", "attention", "ctc", "espnet"]
# What `irl tune` finds.
WEIGHTS = ("ctc_weight", "lm_weight", "length_bonus")


@dataclass(frozen=True)
class SearchOptions(Checked):
    """search: "joint" beam search over attention, CTC and a language model, "attention" (the same without CTC), "ctc"
    (greedy), or "espnet": ESPnet's own BatchBeamSearch, one utterance at a time.

    beam: number of running hypotheses. ctc_weight: weight of CTC, in [0, 1); 0 is attention alone. lm_weight: weight of
    the language model's log probability. length_bonus: bonus for each token and eos; negative: a penalty. max_length,
    min_length: tokens of a hypothesis as a share of the encoder's frames; max_length 0 allows one token for each frame,
    and the search ends early when longer hypotheses are hopeless. normalise_length: rank ended hypotheses by score per
    token. pre_beam_ratio: CTC scores only the pre_beam_ratio * beam tokens that the rest of the score ranks best.
    nbest: number of hypotheses to return.
    """

    search: Search = "joint"
    beam: Count = 5
    ctc_weight: BelowOne = 0.5
    lm_weight: NonNegative = 0.0
    length_bonus: float = 0.0
    max_length: NonNegative = 0.0
    min_length: NonNegative = 0.0
    normalise_length: bool = False
    pre_beam_ratio: Annotated[float, at_least(1)] = 1.5
    nbest: Count = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lm_weight > 0 and self.search == "ctc":
            raise ValueError("the ctc search is greedy and takes no language model")
        if 0 < self.max_length < self.min_length:
            raise ValueError(
                f"expected min_length <= max_length, or max_length 0, got {self.min_length} and {self.max_length}"
            )
        if self.search == "attention":
            # One place decides it: without CTC its weight is 0, whatever the default is.
            object.__setattr__(self, "ctc_weight", 0.0)

    def named(self) -> dict[str, Any]:
        """The search, its beam and its weights, and whatever else differs from its default."""
        shown = ("search", "beam", "ctc_weight", "length_bonus")
        fields = dataclasses.fields(self)
        return {f.name: getattr(self, f.name) for f in fields if f.name in shown or getattr(self, f.name) != f.default}


def add_arguments(parser: argparse.ArgumentParser, leave_out: tuple[str, ...] = ()) -> None:
    """An option for each field of SearchOptions, except the fields in leave_out."""
    helps = {
        "search": None,
        "beam": "number of running hypotheses",
        "ctc_weight": "weight of CTC, in [0, 1)",
        "lm_weight": "weight of the language model",
        "length_bonus": "bonus for each token; negative: a penalty",
        "max_length": "maximum tokens as a share of frames; 0: no limit, but an early end",
        "min_length": "minimum tokens as a share of frames",
        "pre_beam_ratio": "number of tokens that CTC scores, as a multiple of the beam",
        "nbest": "number of hypotheses to write",
    }
    for field in dataclasses.fields(SearchOptions):
        if field.name in helps and field.name not in leave_out:
            kind = {"search": str, "beam": int, "nbest": int}.get(field.name, float)
            choices = get_args(Search) if field.name == "search" else None
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, type=kind, default=field.default, choices=choices, help=helps[field.name])
    parser.add_argument("--normalise-length", action="store_true", help="rank by score per token")


def from_arguments(args: argparse.Namespace) -> SearchOptions:
    """The options of a parsed command line. Raises UserError for values that make no sense together."""
    names = {field.name for field in dataclasses.fields(SearchOptions)} & vars(args).keys()
    try:
        return SearchOptions(**{name: getattr(args, name) for name in names})
    except ValueError as error:
        raise UserError(f"command line: {error}") from None


def to_arguments(options: SearchOptions) -> list[str]:
    """The command line that `from_arguments` reads, with what differs from the defaults."""
    words = []
    for field in dataclasses.fields(SearchOptions):
        value = getattr(options, field.name)
        if value != field.default and not (field.name == "ctc_weight" and options.search == "attention"):
            option = "--" + field.name.replace("_", "-")
            words += [option] if isinstance(value, bool) else [option, str(value)]
    return words


def decoding(options: Mapping[str, Any], tuned: bool = True) -> dict[str, Any]:
    """The part of search options in results that makes two ways of decoding the same: all that touch the best
    hypotheses, or, where weights were tuned (unless the weights shall count), the data on which they were tuned."""
    if tuned and options.get("tuned"):
        return {key: options.get(key) for key in ("search", "beam", "lm", "tuned")}
    # Results from before the pre-beam ratio was an option name its default.
    same = [("pre_beam_ratio", 1.5)]
    return {key: value for key, value in options.items() if key != "nbest" and (key, value) not in same}


def comparable(options: Mapping[str, Any]) -> dict[str, Any]:
    return decoding(options, tuned=False)


def describe(options: Mapping[str, Any]) -> str:
    """Search options in results as a sentence."""
    shown = {key: value for key, value in options.items() if key not in ("search", "lm", "tuned")}
    parts = [f"{options['search']} search", *(f"{key.replace('_', ' ')} {value:g}" for key, value in shown.items())]
    parts += ["with a character LM"] if options.get("lm") else []
    tuned = f"; weights tuned on {', '.join(options['tuned'])}" if options.get("tuned") else ""
    return f"Decoding: {', '.join(parts)}{tuned}."
