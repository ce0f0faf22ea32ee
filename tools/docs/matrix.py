"""The page integrations/matrix.md: what each integration needs and what holds, by running the tests that show it.

    python tools/docs/matrix.py      # runs the tests, and writes the page

A cell is "yes" where its test has passed, "no" where it has failed, and "not run" where a package was missing.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Mapping, NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "tools" / "docs" / "pages" / "integrations" / "matrix.md"
COLUMNS = ("losses and gradients", "two processes", "bf16", "save and load")
PACKAGES = ("torch", "timm", "lightning", "transformers", "accelerate", "espnet", "lhotse")


class Integration(NamedTuple):
    """lines: what a user adds or changes, as it stands in source. checks: a test, FILE::NAME below tests/, for each of
    COLUMNS; empty where there is none."""

    name: str
    page: str
    source: str
    lines: tuple[str, ...]
    checks: tuple[str, str, str, str]


EXAMPLES = "tools/docs/examples"
PAIRED = "pairs = paired(dataset, image_noise(brightness=0.3, contrast=0.3, scale=1.0))"
MATRIX = (
    Integration(
        "plain PyTorch loop", "loops.md", "tools/docs/pages/index.md",
        (
            "model = tap(net,", "irl_loss = IRLLoss(",
            "terms = irl_loss(model, clean, [noise(clean)], lambda view: F.cross_entropy(view.logits, labels),",
        ),
        (
            "objective/test_irl_loss.py::test_equals_plain_loops",
            "objective/test_irl_loss_steps.py::test_two_processes_equal_one",
            "objective/test_irl_loss_steps.py::test_autocast_distances_are_float32",
            "models/test_tapping.py::test_state_dicts_have_the_models_own_names",
        ),
    ),
    Integration(
        "FSDP, both generations", "../model.md", "tests/models/test_fsdp.py",
        ('model = shard(tap(net, ["1", "3"]))', "terms = IRLLoss()(model, X[rows], [NOISY[rows]], loss)"),
        ("", "models/test_fsdp.py::test_two_processes_equal_one_with_the_whole_batch", "",
         "models/test_fsdp.py::test_two_processes_equal_one_with_the_whole_batch"),
    ),
    Integration(
        "timm, the loop of train.py", "loops.md", f"{EXAMPLES}/timm_images.py",
        (
            'model, irl_loss = tap(net, ["layer4"]), METHODS[method]',
            "noisy = TRAIN_NOISE(input, epoch=epoch, seed=seed)",
            "terms = irl_loss(",
        ),
        ("tools/test_examples.py::test_a_step_of_timm_equals_two_passes_by_hand", "", "",
         "tools/test_examples.py::test_timm_images"),
    ),
    Integration(
        "Accelerate", "loops.md", f"{EXAMPLES}/accelerate_loop.py",
        (
            'model = tap(net, ["1"])',
            "terms = irl_loss(model, x, [noise(x)], lambda view: F.cross_entropy(view.logits, y), step=step)",
        ),
        ("tools/test_examples.py::test_a_step_of_accelerate_equals_two_passes_by_hand", "",
         "tools/test_examples.py::test_accelerate_loop", "tools/test_examples.py::test_accelerate_loop"),
    ),
    Integration(
        "Lightning's Trainer", "trainers.md", "tools/docs/pages/integrations/trainers.md",
        (
            PAIRED, "collate_fn=pairs.collate)", 'Trainer(callbacks=[IRLCallback(["encoder"], IRLLoss(gamma=0.5))])',
        ),
        ("integrations/test_lightning.py::test_every_step_equals_two_passes_by_hand",
         "integrations/test_lightning.py::test_ddp_on_two_processes_trains_one_model",
         "integrations/test_lightning.py::test_noise_without_pairs_and_bf16",
         "integrations/test_lightning.py::test_checkpoints_are_the_modules_own"),
    ),
    Integration(
        "Hugging Face's Trainer", "trainers.md", "tools/docs/pages/integrations/trainers.md",
        (
            'noise = additive("noises/", rate=16000)',
            "trainer = IRLTrainer(",
            'train_dataset=paired(dataset, noise, key="input_values")',
            "data_collator=functools.partial(collate_pairs, collate=my_collator)",
            'layers=["wav2vec2.encoder.layers.5"], irl_loss=IRLLoss(gamma=0.5)',
        ),
        ("integrations/test_huggingface.py::test_two_passes_by_hand_and_from_pretrained", "",
         "integrations/test_huggingface.py::test_bf16",
         "integrations/test_huggingface.py::test_two_passes_by_hand_and_from_pretrained"),
    ),
    Integration(
        "ESPnet2's ASR task", "trainers.md", "tools/docs/pages/integrations/trainers.md",
        ("irl_conf:", "alpha: 0.5", "beta: 0.5", "gamma: 1.0", "layers: {encoder.encoders.11: 1.0}",
         "noise_scp: data/noise.scp", 'noise_db_range: "0_15"'),
        ("integrations/test_espnet.py::test_a_step_equals_two_passes_by_hand", "", "",
         "integrations/test_espnet.py::test_espnets_own_trainer"),
    ),
    Integration(
        "lhotse and icefall's loop", "lhotse.md", f"{EXAMPLES}/icefall_loop.py",
        (
            "pairs = PairedCuts(additive(noises, rate=rate, snr=(0, 15)), features=features)",
            'model = tap(net, ["encoder"], lens=lambda inputs, output: frames(inputs["lens"]))',
            "pairs.set_epoch(epoch)",
            "terms = METHODS[method](model, (x, lens), [(copy, lens) for copy in copies], ctc_loss, step=step)",
        ),
        ("tools/test_examples.py::test_a_step_of_the_icefall_loop_equals_two_passes_by_hand", "", "",
         "tools/test_examples.py::test_icefall_loop"),
    ),
)  # fmt: skip
TEXT = """# What holds where

Each row counts the *lines* that a user of the other library adds or changes. `python tools/docs/matrix.py` runs the
tests behind the words, and makes this page.

- *losses and gradients*: the loss and all gradients of a step equal those of two passes written by hand.
- *two processes*: two processes train the model that one trains, or keep one model.
- *bf16*: training steps in mixed precision run.
- *save and load*: the other library, or the network without the tap, reads what was saved.

An empty cell has no test of its own.

{table}

Run with {versions}.
"""


def checks() -> list[str]:
    return list(dict.fromkeys(check for row in MATRIX for check in row.checks if check))


def run() -> dict[str, str]:
    """The outcome of each check, the worst of its parameters: "passed", "skipped" or "failed"."""
    import pytest

    found: dict[str, set[str]] = {check: set() for check in checks()}

    class Outcomes:
        def pytest_runtest_logreport(self, report: Any) -> None:
            check = report.nodeid.partition("[")[0].removeprefix("tests/")
            if report.when == "call" or report.outcome != "passed":
                found[check].add(report.outcome)

        def pytest_collectreport(self, report: Any) -> None:
            if report.outcome != "passed":  # importorskip at the head of a file
                for check in found:
                    if check.partition("::")[0] == report.nodeid.removeprefix("tests/"):
                        found[check].add(report.outcome)

    files = {check.partition("::")[0] for check in found}
    names = {check.partition("::")[2] for check in found}
    arguments = [f"{ROOT}/tests/{file}" for file in sorted(files)] + ["-k", " or ".join(names), "--rootdir", str(ROOT)]
    pytest.main(["-q", "-p", "no:randomly", *arguments], plugins=[Outcomes()])
    order = ("failed", "skipped", "passed")
    return {check: next((o for o in order if o in outcomes), "skipped") for check, outcomes in found.items()}


def versions() -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            pass
    return ", ".join(found)


def render(outcomes: Mapping[str, str], versions: str) -> str:
    """The page."""
    words = {"passed": "yes", "failed": "no", "skipped": "not run"}
    rows = [["integration", "lines", *COLUMNS]]
    for row in MATRIX:
        cells = [f"[{words[outcomes[c]]}](../../../../tests/{c.partition('::')[0]})" if c else "" for c in row.checks]
        rows.append([f"[{row.name}]({row.page})", str(len(row.lines)), *cells])
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return TEXT.format(table="\n".join(lines), versions=versions)


def recorded() -> str:
    """The versions on the page as it is."""
    found = re.search(r"^Run with (.*)\.$", PAGE.read_text(), re.M)
    assert found
    return found[1]


def main() -> None:
    outcomes = run()
    PAGE.write_text(render(outcomes, versions()))
    sys.exit(any(outcome == "failed" for outcome in outcomes.values()))


if __name__ == "__main__":
    main()
