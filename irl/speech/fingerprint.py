"""What speech data are, by their content: by it stale results, weights and noisy copies are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator, Sequence

from irl.core.errors import UserError
from irl.core.fingerprint import (
    content_fingerprint,
    file_chunks,
    file_fingerprint,
    record_inputs,
    recorded_inputs,
    remembered,
    remembered_of_file,
    stamp,
)
from irl.data.kaldi import read_data_dir
from irl.noise.bank import audio_files
from irl.speech.conditions import NoiseConfig


def data_fingerprint(folder: Path) -> str:
    """Hash of ids, texts and audio; a command in wav.scp enters as it stands there, and is not run. It is kept in the
    folder, and taken again where a file has another size or time."""
    utterances = read_data_dir(folder, need_text=(folder / "text").exists(), allow_pipes=True)

    def chunks() -> Iterator[bytes]:
        heard = set()
        for u in utterances:
            yield f"{u.id} {u.text} {u.start} {u.end}\n".encode()
            file = _file(u.wav)
            if file is None or str(file) != u.wav:
                yield u.wav.encode()
            if file is not None and file not in heard:  # once, of however many segments
                heard.add(file)
                yield from file_chunks(file)

    def stamps() -> Iterator[list[Any]]:
        yield from ([u.id, u.wav, u.text, u.start, u.end] for u in utterances)
        cuts = utterances.cuts
        for number in range(len(utterances.wavs)) if cuts is None else dict.fromkeys(cuts.recordings):
            file = _file(utterances.wavs[number])
            if file is not None:
                yield [str(file), *stamp(file)]

    return remembered(folder / ".fingerprint.json", stamps(), lambda: content_fingerprint(chunks()))


def _file(wav: str) -> Path | None:
    """The file of an entry of wav.scp, PATH or ARCHIVE:OFFSET; None where it is a command."""
    if wav.endswith("|"):
        return None
    archive, _, offset = wav.rpartition(":")
    return next((p for p in (Path(wav), *([Path(archive)] if offset.isdigit() else [])) if p.is_file()), None)


def of_test_set(folder: Path) -> str:
    """`data_fingerprint` of a test set, empty where there is none. Raises UserError for a noisy copy of other data than
    there are now."""
    if not folder.is_dir():
        return ""
    made = recorded_inputs(folder)
    source = Path(str(made.get("source", "")))
    if "source" in made and source.is_dir() and made["data"] != data_fingerprint(source):
        raise UserError(f"{folder}: a noisy copy of other data than {source} holds now; run stage 2 again")
    return data_fingerprint(folder)


def record_copy(folder: Path, source: Path) -> None:
    """Note beside a noisy copy of what data it is one."""
    record_inputs(folder, source=str(source), data=data_fingerprint(source))


def transcripts_fingerprint(folder: str) -> str:
    path = Path(folder) / "text"
    return remembered_of_file(path, lambda: file_fingerprint(path))


def bank_fingerprint(root: str) -> str:
    """Of the names and sizes of a bank's files: reading all of MUSAN would take longer than it tells."""
    files = [f"{path.relative_to(root)} {path.stat().st_size}\n" for path in audio_files(Path(root), "", str)]
    return content_fingerprint(line.encode() for line in files)


def noise_fingerprint(noise: NoiseConfig) -> str:
    """Of the banks that training noise is drawn from; empty for noises that need none."""
    needed = {"additive": noise.musan, "speech": noise.musan, "rir": noise.rirs}
    needed |= {"real_noise": noise.noises, "real_rooms": noise.rooms}
    roots = sorted({needed[kind] for kind in noise.kinds if kind in needed})
    return "+".join(bank_fingerprint(root) for root in roots if Path(root).is_dir())


def train_data(config: Any) -> dict[str, str]:
    """Training set, the dev set where weights are chosen on it, and banks of noise, as far as they are there."""

    def data(folder: str) -> str:
        return data_fingerprint(Path(folder)) if Path(folder).is_dir() else ""

    return {
        "train_data": data(config.train_dir),
        "dev_data": data(config.dev_dir) if config.train.average else "",
        "noise_data": noise_fingerprint(config.noise) if config.objective.build().needs_noisy else "",
    }


def test_data(conditions: Sequence[str], args: object = None) -> dict[str, str]:
    """Of each NAME=DATA_DIR."""
    return {name: of_test_set(Path(folder)) for name, _, folder in (item.partition("=") for item in conditions)}
