"""Generate a bank: irl make_bank DIR --name train --rate 16000 [--speech DATA_DIR ...]

DIR/{noise,music,speech}/ has the layout of MUSAN, DIR/simulated_rirs/{smallroom,mediumroom}/ the layout of RIRS_NOISES.
Banks with different names share no clips. Existing files are kept, so an interrupted run can be resumed.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Callable

import numpy as np

from irl.core import atomic_io
from irl.core.arguments import Parser, natural, positive
from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.core.text_files import read_text
from irl.data.audio import write_wav
from irl.data.kaldi import read_data_dir, read_wave
from irl.noise import synth


def _write(path: Path, rate: int, make: Callable[..., np.ndarray], arguments: tuple[Any, ...]) -> None:
    write_wav(path, make(*arguments), rate)


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """How an earlier call made each clip of a bank, by its path in the bank; None where the file is damaged. Names that
    lead out of the folder are none of its: files are removed by these names."""
    path = folder / "manifest.json"
    if not path.exists():
        return {}
    inside = folder.resolve()
    try:
        made = json.loads(read_text(path)).items()
        return {name: how for name, how in made if (folder / name).parent.resolve().is_relative_to(inside)}
    except (UserError, ValueError, AttributeError, RecursionError):
        return None


def main() -> None:
    parser = Parser(prog="irl make_bank", description="Generate noises, music and rooms.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="name of the bank; banks with different names share no clips")
    parser.add_argument("--rate", type=positive, default=16000)
    parser.add_argument("--noises", type=natural, default=60)
    parser.add_argument("--music", type=natural, default=30)
    parser.add_argument("--rooms", type=natural, default=20, help="rooms of each size; 0: none")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of noises and music")
    parser.add_argument(
        "--speech", type=Path, nargs="*", default=[], help="data directories whose utterances are talkers"
    )
    parser.add_argument("--max-speech", type=positive, default=100, help="maximum number of talkers, evenly spaced")
    parser.add_argument("--allow-pipes", action="store_true", help="run shell commands found in wav.scp")
    parser.add_argument("--nj", type=positive, default=2)
    args = parser.parse_args()
    jobs: list[tuple[Path, int, Callable[..., np.ndarray], tuple[Any, ...]]] = []
    for i in range(args.noises):
        kind = synth.NOISES[i % len(synth.NOISES)].__name__
        path = args.folder / "noise" / "generated" / f"noise-{kind}-{i:04d}.wav"
        jobs.append((path, args.rate, synth.noise_clip, (args.name, i, args.seconds, args.rate)))
    for i in range(args.music):
        path = args.folder / "music" / "generated" / f"music-{i:04d}.wav"
        jobs.append((path, args.rate, synth.music_clip, (args.name, i, args.seconds, args.rate)))
    for i in range(args.rooms):
        for medium, group in ((False, "smallroom"), (True, "mediumroom")):
            path = args.folder / "simulated_rirs" / group / f"Room{i:03d}" / f"Room{i:03d}-00001.wav"
            jobs.append((path, args.rate, synth.room_response, (args.name, i, args.rate, medium)))
    talkers = [u for data_dir in args.speech for u in read_data_dir(data_dir, False, args.allow_pipes)]
    for u in talkers[:: max(1, -(-len(talkers) // args.max_speech))]:
        # The folder is the speaker: overlapped speech is never by the speaker of the utterance itself.
        jobs.append((args.folder / "speech" / u.speaker / f"{u.id}.wav", args.rate, read_wave, (u, args.rate)))
    # What this command wrote before is in the manifest: clips no longer asked for go, changed ones are renewed.
    before = _read_manifest(args.folder)
    plan = {str(path.relative_to(args.folder)): repr((rate, make.__name__, rest)) for path, rate, make, rest in jobs}
    for name in (before or {}).keys() - plan.keys():
        (args.folder / name).unlink(missing_ok=True)
    missing = [
        job
        for job, name in zip(jobs, plan)
        if before is None or not job[0].exists() or before.get(name, plan[name]) != plan[name]
    ]
    atomic_io.write(args.folder / "manifest.json", json.dumps(plan, indent=0) + "\n")
    with ProcessPoolExecutor(args.nj) as pool:
        futures = [pool.submit(_write, *job) for job in missing]
        for future in progress(futures, f"bank {args.name}", unit="clip"):
            future.result()
    print(f"{args.folder}: {len(jobs)} clips, {len(missing)} of them new")


if __name__ == "__main__":
    run_command(main)
