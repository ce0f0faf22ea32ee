"""Small trees in exactly the layout of corpora that nobody may copy or that are too large, for the tests."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000
WORDS = ["MR\\.", "SMITH", "[loud_breath]", "said", ",COMMA", "profits", "<and>", "SALES", "fell", ".PERIOD", "*trade*"]


def speech(rng, seconds=0.5):
    """Noise whose level moves as that of speech does."""
    n = int(seconds * RATE)
    envelope = 0.02 + 0.2 * np.abs(np.sin(2 * np.pi * rng.uniform(2, 4) * np.arange(n) / RATE))
    return envelope * rng.normal(size=n) * 0.3


def write(path, x, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(x, -1, 1), RATE, **settings)


# Disc and path of utterances of WSJ, by index file.
TRAIN0 = ["11_1_1:wsj0/si_tr_s/01t/01to030a.wv1", "11_2_1:wsj0/si_tr_s/401/401o0301.wv1"]
TRAIN1 = ["13_16_1: wsj1/si_tr_s/46u/46uc0301.wv1", "13_1_1:wsj1/si_tr_s/47a/47ac0201.wv1"]
DEV = ["13_16_1:wsj1/si_dt_20/4k0/4k0c0301.wv1"]
EVAL = ["11_14_1:wsj0/si_et_20/440/440c0401"]


def wsj(root, numbered, train1=TRAIN1, dev=DEV, eval92=EVAL, text=None):
    """Both corpora below `root`: audio in NIST SPHERE, transcripts, indices. numbered: discs as LDC delivers them.

    text: of every utterance, by number; a fixed line if None.
    """
    rng = np.random.default_rng(0)

    def home(disc):
        corpus = "LDC93S6B" if disc.startswith("11") else "LDC94S13B"
        return root / corpus / disc if numbered else root / corpus

    lines = {}
    for number, entry in enumerate((*TRAIN0, *train1, *dev, *eval92)):
        disc, path = entry.split(":")
        first, *rest = disc.split("_")
        path = Path(path.strip()).with_suffix(".wv1")
        audio = home(f"{first}-{rest[0]}.{rest[1]}") / path
        write(audio, speech(rng), format="NIST", subtype="PCM_16")
        dots = audio.parents[3] / path.parts[0] / "transcrp" / f"{path.stem[:6]}.dot"
        said = "Mr\\. Smith [loud_breath] said ,COMMA" if text is None else text(number)
        lines.setdefault(dots, []).append(f"{said} ({path.stem})\n")
    for dots, said in lines.items():
        dots.parent.mkdir(parents=True, exist_ok=True)
        dots.write_text("".join(said))
    for disc, path, entries in (
        ("11-13.1", "wsj0/doc/indices/train/tr_s_wv1.ndx", TRAIN0),
        ("11-13.1", "wsj0/doc/indices/test/nvp/si_et_20.ndx", eval92),
        ("13-34.1", "wsj1/doc/indices/si_tr_s.ndx", train1),
        ("13-34.1", "wsj1/doc/indices/h1_p0.ndx", dev),
    ):
        index = home(disc) / path
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_bytes(";; a remark\r\n".encode() + "".join(line + "\r\n" for line in entries).encode())
    return root / "LDC93S6B", root / "LDC94S13B"


def larger_wsj(root):
    """Enough to train on: a dozen utterances for training, three each for dev and test, in words of WSJ's markup."""
    rng = np.random.default_rng(1)

    def text(number):
        # Every word is heard in training, so that every character is known.
        return " ".join(WORDS) if number == 0 else " ".join(rng.choice(WORDS, 3))

    return wsj(
        root,
        True,
        train1=[f"13_{1 + i % 2}_1:wsj1/si_tr_s/4{i % 3}a/4{i % 3}ac02{i:02d}.wv1" for i in range(12)],
        dev=[f"13_16_1:wsj1/si_dt_20/4k{i % 2}/4k{i % 2}c03{i:02d}.wv1" for i in range(3)],
        eval92=[f"11_14_1:wsj0/si_et_20/44{i % 2}/44{i % 2}c04{i:02d}" for i in range(3)],
        text=text,
    )


def librispeech(root, parts, speakers=(103, 19), utterances=2):
    """Parts of LibriSpeech, a chapter for each speaker."""
    rng = np.random.default_rng(2)
    for part in parts:
        for speaker in speakers:
            folder = root / "LibriSpeech" / part / str(speaker) / "7"
            keys = [f"{speaker}-7-{i:04d}" for i in range(utterances)]
            for key in keys:
                write(folder / f"{key}.flac", speech(rng))
            (folder / f"{speaker}-7.trans.txt").write_text("".join(f"{key} THAT'S IT\n" for key in keys))
    return root


def musan(root):
    """MUSAN: music, noise and speech in folders by source, each with its lists."""
    rng = np.random.default_rng(3)
    sources = {"music": ["fma", "jamendo"], "noise": ["free-sound", "sound-bible"], "speech": ["librivox", "us-gov"]}
    for category, folders in sources.items():
        for source in folders:
            for i in range(20):
                write(root / category / source / f"{category}-{source}-{i:04d}.wav", speech(rng, 0.7))
            for name in ("ANNOTATIONS", "LICENSE", "README"):
                (root / category / source / name).write_text("text beside the audio\n")
    (root / "README").write_text("MUSAN\n")
    return root


def rirs_noises(root):
    """RIRS_NOISES: simulated rooms of three sizes, point-source noises, and real responses with noises among them.

    What must not be used is so loud that it would be noticed.
    """
    rng = np.random.default_rng(4)
    n = 1600
    for size in ("smallroom", "mediumroom", "largeroom"):
        folder = root / "simulated_rirs" / size
        for room in range(1, 25):
            for i in range(2):
                decay = np.exp(-np.arange(n) / (200 if size == "smallroom" else 500))
                response = 0.1 * rng.normal(size=n) * decay
                response[40] = 0.9
                write(folder / f"Room{room:03d}" / f"Room{room:03d}-{i + 1:05d}.wav", response)
        (folder / "rir_list").write_text("--rir-id small-1 --room-id 1 x.wav\n")
    write(root / "pointsource_noises" / "noise-free-sound-0000.wav", np.ones(n))
    write(root / "real_rirs_isotropic_noises" / "RVB2014_type1_noise_largeroom1_1.wav", np.ones((n, 8)))
    write(root / "real_rirs_isotropic_noises" / "RVB2014_type1_rir_largeroom1_far_angla.wav", np.ones((n, 8)))
    return root
