"""Transcribe recordings: irl transcribe CHECKPOINT file.wav ...

Recordings may have any format, rate and number of channels. Formats that libsndfile does not read, such as m4a and
webm, need PyAV (pip install av) or ffmpeg on PATH. Each file gives one line: its path, a tab, the text. A recording of
more than 20 s is cut at pauses. A file that cannot be read is reported, the others are transcribed, and the status at
the end is 1.
"""

from __future__ import annotations

from pathlib import Path

from irl.core.arguments import Parser
from irl.core.errors import UserError, run_command
from irl.core.logging import log_to, logger, progress, say
from irl.data.audio import read_audio
from irl.speech import search_options
from irl.speech.evaluate import add_models, options_of
from irl.speech.pauses import cut_at_pauses, is_silent
from irl.speech.recogniser import Recogniser

BATCH = 8  # pieces at once


def transcribe(recogniser: Recogniser, path: Path) -> str:
    """The text of a recording. Raises UserError for what cannot be read."""
    rate = recogniser.config.features.rate
    wave = read_audio(path, rate, any_rate=True, any_channels=True)
    if not len(wave):
        raise UserError(f"{path}: no samples")
    pieces = [piece for piece in cut_at_pauses(wave, rate) if not is_silent(piece)]
    if not pieces:
        logger.warning(f"{path}: silence, nothing in it is louder than -60 dBFS")
    texts = []
    with progress(None, path.name, total=len(pieces), unit="piece", leave=False, disable=len(pieces) < 2) as bar:
        for begin in range(0, len(pieces), BATCH):
            found = recogniser(pieces[begin : begin + BATCH])
            texts += [recogniser.text(hypotheses[0]) for hypotheses in found]
            bar.update(len(found))
    return " ".join(text for text in texts if text)


def main() -> None:
    parser = Parser(prog="irl transcribe", description="Transcribe recordings.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    search_options.add_arguments(parser, leave_out=("nbest",))
    add_models(parser)
    args = parser.parse_args()
    log_to()
    recogniser = Recogniser(args.checkpoint, options_of(args)[0], args.lm)
    failed = []
    for path in progress(args.files, "transcribe", unit="file", leave=False, disable=len(args.files) < 2):
        try:
            say(f"{path}\t{transcribe(recogniser, path)}")
        except (UserError, OSError) as error:
            failed.append(path)
            logger.error(f"error: {error}")
    if failed:
        names = ", ".join(map(str, failed))
        raise UserError(f"{len(failed)} of {len(args.files)} recordings could not be transcribed: {names}")


if __name__ == "__main__":
    run_command(main)
