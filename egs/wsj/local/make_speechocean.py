"""Stage 0 of --corpus speechocean: speechocean762, OpenSLR 101, as delivered. local/make_speechocean.py CORPUS DIR

CORPUS holds train/ and test/ with wav.scp, text and utt2spk, and WAVE/SPEAKERnnnn/*.WAV; another audio suffix will do,
since a copy may be compressed. Training speakers are the corpus's own. Of its test speakers 25 become dev, in the order
of a hash of their names; the others are the test set. Training leaves out every sentence that occurs in dev or test.
"""

from __future__ import annotations

from pathlib import Path

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.fingerprint import stable_hash
from irl.data.audio import AUDIO_SUFFIXES
from irl.data.kaldi import Utterance, read_table, write_data_dir

# The published size of the training set, and of the test set (Zhang et al. 2021).
UTTERANCES, SPEAKERS = 2500, 125
DEV_SPEAKERS = 25


def audio_of(corpus: Path) -> dict[str, Path]:
    """Every recording by its name without suffix."""
    found: dict[str, Path] = {}
    for path in sorted((corpus / "WAVE").glob("SPEAKER*/*")):
        if path.suffix.lower() in AUDIO_SUFFIXES:
            if path.stem in found:
                raise UserError(f"{path}: the same recording as {found[path.stem]}")
            found[path.stem] = path
    return found


def utterances_of(folder: Path, audio: dict[str, Path], incomplete: bool) -> list[Utterance]:
    wavs, texts, speakers = (read_table(folder / name) for name in ("wav.scp", "text", "utt2spk"))
    found = []
    for key, wav in wavs.items():
        stem = Path(wav).stem
        for what, known in (("text", texts), ("utt2spk", speakers)):
            if not known.get(key):
                raise UserError(f"{folder / what}: lacks {key}, which wav.scp has")
        if stem not in audio:
            raise UserError(f"{folder / 'wav.scp'}: {key}: no recording {stem}.* in {folder.parent / 'WAVE'}/SPEAKER*")
        found.append(Utterance(key, str(audio[stem]), speakers[key], texts[key]))
    counts = (len(found), len({u.speaker for u in found}))
    if counts != (UTTERANCES, SPEAKERS) and not incomplete:
        raise UserError(
            f"{folder}: {counts[0]} utterances of {counts[1]} speakers, {UTTERANCES} of {SPEAKERS} are published; "
            "unpack it again, or take it as it is with --incomplete true"
        )
    return found


def main() -> None:
    parser = Parser()
    parser.add_argument("corpus", type=Path, help="the folder that holds train, test and WAVE")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--incomplete", action="store_true", help="accept other numbers of utterances than published")
    args = parser.parse_args()
    if not (args.corpus / "WAVE").is_dir():
        raise UserError(f"{args.corpus}: expected speechocean762 with its folders train, test and WAVE")
    audio = audio_of(args.corpus)
    train, tested = (utterances_of(args.corpus / name, audio, args.incomplete) for name in ("train", "test"))
    speakers = sorted({u.speaker for u in tested}, key=stable_hash)
    if len(speakers) <= DEV_SPEAKERS:
        raise UserError(f"{args.corpus / 'test'}: {len(speakers)} speakers, expected more than {DEV_SPEAKERS}")
    dev = set(speakers[:DEV_SPEAKERS])
    sentences = {u.text for u in tested}
    sets = {
        "train": [u for u in train if u.text not in sentences],
        "dev": [u for u in tested if u.speaker in dev],
        "test": [u for u in tested if u.speaker not in dev],
    }
    for name, utterances in sets.items():
        write_data_dir(args.folder / name, utterances)
        left_out = f", {len(train) - len(utterances)} left out: their sentences are tested" if name == "train" else ""
        heard = len({u.speaker for u in utterances})
        print(f"{args.folder / name}: {len(utterances)} utterances of {heard} speakers{left_out}")


if __name__ == "__main__":
    run_command(main)
