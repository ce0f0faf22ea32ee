import numpy as np
import pytest
import soundfile
from matplotlib import image
from tiny import run

from irl.core.errors import UserError
from irl.data.kaldi import Utterance, write_data_dir
from irl.speech.pictures import spectrograms

RATE = 8000
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.fixture
def folders(tmp_path):
    """A tone, the same ten times softer, and silence."""
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    folders = {}
    for name, gain in (("clean", 1.0), ("soft", 0.1), ("nothing", 0.0)):
        folders[name] = tmp_path / name
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, gain * tone, RATE)
        write_data_dir(folders[name], [Utterance("utt1", str(path), "a", "x")])
    return folders


def test_one_scale_for_all_conditions(folders, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr("irl.speech.pictures._draw", lambda levels, *_: drawn.update(levels) or b"")
    spectrograms("utt1", folders, tmp_path / "out.png")
    assert list(drawn) == ["clean", "soft", "nothing"]
    assert [drawn[c].max() for c in ("clean", "soft")] == pytest.approx([0, -20], abs=0.01)
    assert drawn["nothing"].max() < -80


def test_a_png_the_same_each_time(folders, tmp_path):
    for name in ("a", "b"):
        spectrograms("utt1", folders, tmp_path / "pictures" / f"{name}.png")
    first, second = ((tmp_path / "pictures" / f"{name}.png").read_bytes() for name in ("a", "b"))
    assert first == second
    height, width, _ = image.imread(tmp_path / "pictures" / "a.png").shape
    assert width == 1100 and height > 400


def test_what_cannot_be_drawn(folders, tmp_path):
    with pytest.raises(UserError, match="clean: has no utterance utt2"):
        spectrograms("utt2", folders, tmp_path / "out.png")
    soundfile.write(tmp_path / "soft.wav", np.zeros(100), 16000)
    with pytest.raises(UserError, match="utterance utt1 .*sampling rate 16000 Hz, expected 8000"):
        spectrograms("utt1", folders, tmp_path / "out.png")


def test_the_command_draws_the_first_utterance(folders, tmp_path):
    conditions = [f"none={folders['clean']}", f"vdown={folders['soft']}"]
    out = run("irl.bin.spectrograms", *conditions, "--out", "a.png", cwd=tmp_path).stdout
    assert out == "a.png: utterance utt1 under none, vdown\n" and (tmp_path / "a.png").stat().st_size
    wrong = run("irl.bin.spectrograms", "clean", "--out", "b.png", cwd=tmp_path, check=False)
    assert wrong.returncode == 1 and "expected NAME=DATA_DIR, found clean" in wrong.stderr
