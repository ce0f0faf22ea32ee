import numpy as np
import pytest
import soundfile


@pytest.fixture
def bank_dir(tmp_path):
    """A small bank in MUSAN's and RIRS_NOISES' layouts, with a stereo clip, another rate, and a short clip."""
    rng = np.random.default_rng(0)

    def write(name, x, rate=16000):
        path = tmp_path / "bank" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, x, rate, subtype="FLOAT")

    write("noise/free-sound/noise-0.wav", 0.1 * rng.normal(size=40000))
    write("noise/free-sound/noise-1.wav", 0.1 * rng.normal(size=(30000, 2)))
    write("noise/sound-bible/noise-2.wav", 0.1 * rng.normal(size=500))
    write("music/jamendo/music-0.wav", 0.1 * rng.normal(size=20000), 8000)
    for i in range(9):
        write(f"speech/spk{i % 3}/speech-{i}.wav", 0.1 * rng.normal(size=20000 + i))
    for group in ("smallroom", "mediumroom"):
        for i in range(3):
            rir = np.zeros(900 + i)
            rir[30 + i] = 1
            rir[100:] += 0.1 * rng.normal(size=len(rir) - 100) * np.exp(-np.arange(len(rir) - 100) / 200)
            write(f"simulated_rirs/{group}/Room00{i}/Room00{i}-00001.wav", rir)
    return tmp_path / "bank"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of noises, in a tree, of two rates and formats; one of talkers; one of rooms."""
    root, rng = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    for i in range(6):
        path = root / "noises" / f"class{i % 2}" / f"{i}{('.wav', '.flac')[i % 2]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.normal(size=3000), 8000 * (1 + i % 2))
    for name, size in (("talkers", 4000), ("rooms", 300)):
        (root / name).mkdir()
        for i in range(4):
            soundfile.write(root / name / f"{i}.wav", np.exp(-np.arange(size) / 80) * rng.normal(size=size) * 0.2, 8000)
    return root
