"""Error rates of transcripts: irl score_text REF_TEXT HYP_TEXT [--alignments FILE] [--trn PREFIX]"""

from __future__ import annotations

from irl.core.errors import run_command
from irl.speech.scoring import main

if __name__ == "__main__":
    run_command(main)
