"""Banks of any folder of audio."""

import copy
import os
import pickle

import numpy as np
import pytest
import soundfile
import torch

from irl.core.errors import UserError
from irl.core.rng import Keys
from irl.noise.audio import Additive, OverlappedSpeech, Reverberation
from irl.noise.bank import PARTS, Bank, RIRBank, folder_files
from irl.noise.snr import SNRS, Between

RATE = 8000


@pytest.fixture
def folder(tmp_path):
    """Folds 1 to 5 in the names, four formats, two rates, in a tree."""
    rng = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / "mine" / f"class{i % 3}" / f"{i % 5 + 1}-{i}-A{('.wav', '.flac', '.ogg', '.mp3')[i % 4]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.normal(size=1000), RATE * (1 + i % 2))
    (tmp_path / "mine" / "README.txt").write_text("not audio")
    return tmp_path / "mine"


def test_any_folder_is_a_bank(folder):
    bank = Bank(folder, RATE)
    assert list(bank.clips) == ["noise"] and len(bank.clips["noise"]) == 30
    params = Additive(bank).draw(Keys(range(300), 1), torch.full((300,), 500))
    assert set(params.snr.tolist()) == set(SNRS["noise"]) and set(params.clips[:, 0].tolist()) == set(range(30))
    assert {c.speaker for c in Bank(folder, RATE, {"speech": "."}).clips["speech"]} == {"class0", "class1", "class2"}
    assert len(Bank(folder, RATE, {"noise": "class1"}).clips["noise"]) == 10


@pytest.mark.parametrize("folds", ["", r"(\d)-[^/]*$"])
def test_parts_of_a_folder_share_no_file(folder, folds):
    parts = {part: folder_files(folder, part, folds) for part in PARTS}
    assert sorted(sum(parts.values(), [])) == folder_files(folder, "")
    assert [len(p) for p in parts.values()] == ([18, 6, 6] if folds else [24, 3, 3])
    if folds:
        assert {p.name[0] for p in parts["dev"]} == {"4"} and {p.name[0] for p in parts["test"]} == {"5"}
    assert [c.path for c in Bank(folder, RATE, None, "dev", folds).clips["noise"]] == parts["dev"]
    assert RIRBank(folder, RATE, "dev", folds=folds).paths == {".": parts["dev"]}


def test_the_split_does_not_move_with_the_folder(folder, tmp_path):
    before = [p.name for p in folder_files(folder, "test")]
    assert [p.name for p in folder_files(folder.rename(tmp_path / "moved"), "test")] == before


def test_folds_are_ordered_as_numbers(tmp_path):
    for i in range(1, 13):
        soundfile.write(tmp_path / f"fold{i}_x.wav", np.ones(10), RATE)
    assert [p.name for p in folder_files(tmp_path, "test", r"fold(\d+)")] == ["fold12_x.wav"]


def test_any_folder_of_responses_is_a_bank(tmp_path, bank_dir):
    (tmp_path / "rooms" / "halls").mkdir(parents=True)
    for i in range(3):
        soundfile.write(tmp_path / "rooms" / "halls" / f"room{i}.flac", np.eye(50)[i] * 0.9, RATE)
    x, lens = torch.randn(4, 600), torch.full((4,), 600)
    noise = Reverberation(RIRBank(tmp_path / "rooms", RATE))
    y = noise.apply(x, lens, noise.draw(Keys(range(4), 1), lens))
    # A response that is one impulse leaves the sound where and as loud as it is.
    torch.testing.assert_close(y, x, atol=1e-3, rtol=0)
    assert list(RIRBank(bank_dir, RATE).paths) == ["smallroom", "mediumroom"], "RIRS_NOISES is recognised"


def test_own_snrs(folder):
    lens = torch.full((2000,), 100)
    few = Additive(Bank(folder, RATE), snrs=(0.0, 7.0)).draw(Keys(range(2000), 1), lens).snr
    assert set(few.tolist()) == {0.0, 7.0}
    between = Additive(Bank(folder, RATE), snrs=Between(-5, 15)).draw(Keys(range(2000), 1), lens).snr
    assert -5 <= between.min() < -4.9 and 14.9 < between.max() < 15 and abs(between.mean() - 5) < 0.5
    talker = OverlappedSpeech(Bank(folder, RATE, {"speech": "."}), Between(3, 3)).draw(Keys(range(9), 1), lens[:9])
    assert set(talker.snr.tolist()) == {3.0}


def test_banks_can_be_pickled_and_copied(folder):
    noise = Additive(Bank(folder, RATE))
    rooms = Reverberation(RIRBank(folder, RATE))
    x, lens = torch.randn(3, 400), torch.full((3,), 400)
    for one in (noise, rooms):
        params = one.draw(Keys(["a", "b", "c"], 1), lens)
        expected = one.apply(x, lens, params)
        for other in (pickle.loads(pickle.dumps(one)), copy.deepcopy(one)):
            assert torch.equal(other.apply(x, lens, other.draw(Keys(["a", "b", "c"], 1), lens)), expected)


def test_ids_may_be_strings_or_numbers():
    by_name = Keys(["utt-1", "utt-2"], 0).uniform(1)
    assert torch.equal(Keys(np.array(["utt-1", "utt-2"]), 0).uniform(1), by_name) and by_name[0] != by_name[1]
    by_number = Keys(torch.tensor([7, 8]), 0).uniform(1)
    for ids in ([7, 8], (7, 8), np.array([7, 8])):
        assert torch.equal(Keys(ids, 0).uniform(1), by_number)
    for wrong in ([0.5, 1], ["a", 1], [True], None):
        with pytest.raises(ValueError, match="ids: expected strings or whole numbers"):
            Keys(wrong, 0)


def test_errors_name_the_folder_and_the_remedy(folder, tmp_path, bank_dir):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        Bank(tmp_path / "nowhere", RATE)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none: no audio found \(.wav, .flac"):
        RIRBank(tmp_path / "none", RATE)
    with pytest.raises(UserError, match="mine/noise: no audio found .* leave the categories out"):
        Bank(folder, RATE, ["noise"])
    with pytest.raises(UserError, match="has MUSAN's layout, so name its categories"):
        Bank(bank_dir, RATE)
    with pytest.raises(UserError, match="categories: expected a list of names, found 'noise'"):
        Bank(bank_dir, RATE, "noise")
    with pytest.raises(UserError, match="class0/1-0-A.wav: the first group of 'fold' finds no fold"):
        Bank(folder, RATE, part="dev", folds="fold")
    with pytest.raises(UserError, match="mine: 1 folds; its part dev needs at least 3"):
        Bank(folder, RATE, part="dev", folds=r"([AB])")
    with pytest.raises(UserError, match="part: expected one of train, dev, test, found 'training'"):
        Bank(folder, RATE, part="training")
    with pytest.raises(UserError, match="no category 'music' in this bank, it has noise"):
        Additive(Bank(folder, RATE), ("music",))
    with pytest.raises(UserError, match="speech alone; for several talkers name the category 'babble'"):
        Additive(Bank(folder, RATE, {"speech": "."}))
    with pytest.raises(UserError, match="no category 'speech' in this bank; .*{'speech': '.'}"):
        OverlappedSpeech(Bank(folder, RATE))
    for snrs in ((float("nan"),), "loud", [], Between(2, 1)):
        with pytest.raises(ValueError, match="snrs: expected"):
            Additive(Bank(folder, RATE), snrs=snrs)
    (folder / "pointsource_noises").mkdir()
    (folder / "class0/1-0-A.wav").rename(folder / "pointsource_noises" / "x.wav")
    with pytest.raises(UserError, match="holds the noises of RIRS_NOISES"):
        RIRBank(folder, RATE)


def test_linked_folders_are_followed_and_loops_are_not(tmp_path):
    for name in ("elsewhere/deep", "bank/noise/own"):
        (tmp_path / name).mkdir(parents=True)
        soundfile.write(tmp_path / name / "x.wav", 0.1 * np.ones(100), RATE)
    noise = tmp_path / "bank" / "noise"
    (noise / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(noise)
    (noise / "own" / "self").symlink_to(noise)
    (noise / "gone").symlink_to(tmp_path / "nowhere")
    found = [
        clip.path.relative_to(noise).as_posix() for clip in Bank(tmp_path / "bank", RATE, ["noise"]).clips["noise"]
    ]
    assert found == ["linked/deep/x.wav", "own/x.wav"]
    os.mkfifo(noise / "pipe.wav")
    with pytest.raises(UserError, match="pipe.wav: cannot be read as audio: it is a pipe or a device"):
        Bank(tmp_path / "bank", RATE, ["noise"])


def test_one_channel_of_an_impulse_response(tmp_path):
    responses = np.zeros((100, 2))
    responses[[0, 5], [0, 1]] = 0.5
    soundfile.write(tmp_path / "x.wav", responses, RATE)
    for channel, peak in ((0, 0), (1, 5)):
        bank = RIRBank(tmp_path, RATE, sizes=(), channel=channel)
        assert np.flatnonzero(bank.get(bank.paths["."][0])).tolist() == [peak]
    bank = RIRBank(tmp_path, RATE, sizes=(), channel=2)
    with pytest.raises(UserError, match="x.wav: 2 channels, asked for channel 2"):
        bank.get(bank.paths["."][0])
