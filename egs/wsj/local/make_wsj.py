"""Data directories of the Wall Street Journal corpora: python local/make_wsj.py WSJ0 WSJ1 DIR

WSJ0 is LDC93S6B (or LDC93S6A), WSJ1 is LDC94S13B (or LDC94S13A): folders that hold the numbered discs (11-1.1 ... and
13-1.1 ...) as delivered, or all discs copied into one tree (wsj0/, wsj1/). Writes DIR/train_si284, DIR/test_dev93 and
DIR/test_eval92 with the utterances that the corpora's own index files list, as Kaldi's and ESPnet's recipes do:

    train_si284   wsj1/doc/indices/si_tr_s.ndx and wsj0/doc/indices/train/tr_s_wv1.ndx, speaker 401 of WSJ0 left out
    test_dev93    wsj1/doc/indices/h1_p0.ndx
    test_eval92   wsj0/doc/indices/test/nvp/si_et_20.ndx

Only the close-talking microphone (.wv1). Audio compressed by shorten is converted to FLAC below DIR/flac, by PyAV or
sph2pipe; other audio is left where it is, for libsndfile reads it.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Callable, Iterable, NamedTuple

import numpy as np
import soundfile

from irl.core import atomic_io
from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.logging import progress
from irl.data.kaldi import Utterance, write_data_dir

RATE = 16000


class Set(NamedTuple):
    """A data set: its index files as (corpus, path below the corpus' folder), and how many utterances it has."""

    indices: tuple[tuple[str, str], ...]
    count: int


SETS = {
    "train_si284": Set((("wsj1", "doc/indices/si_tr_s.ndx"), ("wsj0", "doc/indices/train/tr_s_wv1.ndx")), 37416),
    "test_dev93": Set((("wsj1", "doc/indices/h1_p0.ndx"),), 503),
    "test_eval92": Set((("wsj0", "doc/indices/test/nvp/si_et_20.ndx"),), 333),
}
# Speaker 401 of WSJ0's training set has no place in it: Kaldi and ESPnet leave the speaker out too.
LEFT_OUT = "wsj0/si_tr_s/401/"


class Tree:
    """One corpus on disk. `find` turns (disc, path) of an index into a file, however the discs were copied."""

    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        if not root.is_dir():
            raise UserError(f"{root}: no such folder of {name}")
        # Folders that hold a wsj0/ or wsj1/: the discs, or the root itself where they were copied together.
        self.homes = [p for p in [root, *sorted(root.iterdir())] if (p / name).is_dir()]
        if not self.homes:
            raise UserError(f"{root}: holds neither {name}/ nor discs with it, such as {self._example()}/{name}")

    def _example(self) -> str:
        return "11-1.1" if self.name == "wsj0" else "13-1.1"

    def find(self, disc: str, path: str) -> Path:
        for home in [self.root / disc, *self.homes]:
            if (home / path).is_file():
                return home / path
        if self.root not in self.homes and not (self.root / disc).is_dir():
            raise UserError(f"{self.root}: disc {disc} is missing, {path} should be on it")
        raise UserError(f"{self.root}: the index names {path} of disc {disc}, which is not there")

    def index(self, path: str) -> Path:
        for home in self.homes:
            if (home / self.name / path).is_file():
                return home / self.name / path
        disc = "11-13.1" if self.name == "wsj0" else "13-34.1"
        raise UserError(f"{self.root}: index {self.name}/{path} is missing; it is on disc {disc}")


def read_index(path: Path) -> list[tuple[str, str]]:
    """(disc, path) of each line `11_1_1:wsj0/si_tr_s/01t/01to030a.wv1`; lines that begin with ; are remarks."""
    found = []
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(";"):
            continue
        match = re.fullmatch(r"(\d+)_(\d+)_(\d+):\s*/?(\S+)", line)
        if match is None:
            raise UserError(f"{path}:{number}: expected `disc:path`, found {line!r}")
        # The index of eval92 names files without their suffix.
        name = match[4] if match[4].lower().endswith(".wv1") else match[4] + ".wv1"
        found.append((f"{match[1]}-{match[2]}.{match[3]}", name))
    return found


def find_transcripts(trees: Iterable[Tree], needed: set[str]) -> dict[str, str]:
    """The line of each needed utterance, from the .dot files: `text text (01to030a)`."""
    sessions = {key[:6] for key in needed}
    found: dict[str, str] = {}
    for tree in trees:
        for home in tree.homes:
            for path in sorted((home / tree.name).rglob("*.dot")):
                if path.stem.lower()[:6] not in sessions:
                    continue
                for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
                    match = re.fullmatch(r"(.*)\((\w+)\)\s*", line)
                    if match is None and line.strip():
                        raise UserError(f"{path}:{number}: expected `text (utterance)`, found {line!r}")
                    if match is not None and match[2].lower() in needed:
                        found[match[2].lower()] = match[1].strip()
    lacking = sorted(needed - found.keys())
    if lacking:
        raise UserError(f"{lacking[0]}: no transcript (.dot) for it and {len(lacking) - 1} others")
    return found


# As words of their own these are written so in the CMU dictionary and in the other transcripts.
EQUIVALENTS = {"%PERCENT": "PERCENT", ".POINT": "POINT", "--DASH": "-DASH"}


def normalise(line: str) -> str:
    """A transcript in WSJ's detailed orthography as plain text, in capitals. Word by word, as Kaldi and ESPnet do it:

    - backslashes, which quote, go;
    - a pause (.), a truncated utterance (~) and all marks of noises go: in the next or previous word ([<door_slam],
      [door_slam>]), its begin and end ([phone_ring/], [/phone_ring]), by itself ([loud_breath]). For the last Kaldi
      writes <NOISE>, which ESPnet takes out again when it scores;
    - a verbal deletion <AND> was spoken: AND;
    - a mispronounced *WORD* loses its asterisks;
    - EQUIVALENTS are replaced; other words for punctuation that were read aloud, such as ,COMMA, stay.
    """
    words = []
    for word in line.upper().replace("\\", "").replace("*", "").split():
        if word in (".", "~") or re.fullmatch(r"\[.*\]", word):
            continue
        deleted = re.fullmatch(r"<(.+)>", word)
        word = deleted[1] if deleted else word
        words.append(EQUIVALENTS.get(word, word))
    return " ".join(words)


def sphere_header(path: Path) -> dict[str, str]:
    """The fields of a NIST SPHERE file's header."""
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head.startswith(b"NIST_1A"):
        raise UserError(f"{path}: expected NIST SPHERE audio, found a file that begins with {head[:8]!r}")
    fields = {}
    for line in head.decode("latin-1").splitlines()[2:]:
        if line.strip() == "end_head":
            break
        name, _, value = (line.split(maxsplit=2) + ["", ""])[:3]
        fields[name] = value
    return fields


def shorten_decoder() -> Callable[[Path], np.ndarray] | None:
    """What turns shorten-compressed SPHERE into int16 samples here: PyAV, else sph2pipe, else None."""
    try:
        import av
    except ImportError:
        program = shutil.which("sph2pipe")
        if program is None:
            return None

        def by_program(path: Path) -> np.ndarray:
            done = subprocess.run([program, "-f", "raw", "-p", "-c", "1", str(path)], capture_output=True)
            if done.returncode or not done.stdout:
                raise UserError(f"{path}: sph2pipe cannot read it: {done.stderr.decode(errors='replace').strip()}")
            return np.frombuffer(done.stdout, dtype=np.int16)

        return by_program

    def by_library(path: Path) -> np.ndarray:
        try:
            with open(path, "rb") as file, av.open(file, format="nistsphere") as container:
                frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        except av.error.FFmpegError as error:
            raise UserError(f"{path}: PyAV cannot read it: {error}") from None
        return np.concatenate(frames, axis=1)[0].astype(np.int16)

    return by_library


def usable(path: Path, key: str, folder: Path, decode: Callable[[Path], np.ndarray] | None) -> Path:
    """A file that libsndfile reads: the original, or its conversion in `folder`, which is made once."""
    if "shorten" not in sphere_header(path).get("sample_coding", ""):
        return path
    flac = folder / f"{key}.flac"
    if not flac.exists():
        if decode is None:
            raise UserError(f"{path}: is compressed by shorten; install PyAV (pip install av) or put sph2pipe on PATH")
        samples = decode(path)
        with atomic_io.replacing(flac, sync=False) as partial:
            soundfile.write(partial, samples, RATE, format="FLAC", subtype="PCM_16")
    return flac


def main() -> None:
    parser = Parser()
    parser.add_argument("wsj0", type=Path)
    parser.add_argument("wsj1", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--incomplete", action="store_true", help="take other counts than those published")
    args = parser.parse_args()
    trees = {"wsj0": Tree(args.wsj0, "wsj0"), "wsj1": Tree(args.wsj1, "wsj1")}
    listed: dict[str, dict[str, Path]] = {}
    for name, (indices, count) in SETS.items():
        files: dict[str, Path] = {}
        for corpus, index in indices:
            path = trees[corpus].index(index)
            for disc, entry in read_index(path):
                if entry.startswith(LEFT_OUT):
                    continue
                key = Path(entry).stem.lower()
                if key in files:
                    raise UserError(f"{path}: utterance {key} is listed twice in {name}")
                files[key] = trees[corpus].find(disc, entry)
        if len(files) != count and not args.incomplete:
            raise UserError(
                f"{name}: {len(files)} utterances, {count} are published ({len(files) - count:+d}); the index files "
                "differ from the corpus', --incomplete goes on with them"
            )
        listed[name] = files
    transcripts = find_transcripts(trees.values(), {key for files in listed.values() for key in files})
    decode = shorten_decoder()
    flac = args.folder / "flac"
    flac.mkdir(parents=True, exist_ok=True)
    for name, files in listed.items():
        utterances, empty = [], 0
        for key, path in progress(sorted(files.items()), name, unit="utt"):
            text = normalise(transcripts[key])
            if not text:
                empty += 1
                continue
            wav = usable(path, key, flac, decode)
            utterances.append(Utterance(key, str(wav), key[:3], text))
        write_data_dir(args.folder / name, utterances)
        speakers = Counter(u.speaker for u in utterances)
        left = f", {empty} without a word left out" if empty else ""
        print(f"{args.folder / name}: {len(utterances)} utterances of {len(speakers)} speakers{left}")


if __name__ == "__main__":
    run_command(main)
