import numpy as np
import pytest

from irl.speech.pauses import LONGEST, PAUSE, SHORTEST, cut_at_pauses, is_silent

RATE = 1000


def spoken(seconds, pauses=()):
    wave = 0.1 * np.random.default_rng(0).normal(size=round(seconds * RATE)).astype(np.float32)
    for at in pauses:
        wave[round((at - PAUSE) * RATE) : round((at + PAUSE) * RATE)] *= 0.01
    return wave


def test_what_is_not_long_stays_whole():
    for seconds in (0, 0.001, LONGEST):
        (piece,) = cut_at_pauses(spoken(seconds), RATE)
        assert len(piece) == round(seconds * RATE)


def test_pieces_end_in_pauses_and_join_to_the_whole():
    pauses = (12.0, 25.0, 41.0)
    wave = spoken(55, pauses)
    pieces = cut_at_pauses(wave, RATE)
    assert (np.concatenate(pieces) == wave).all()
    ends = np.cumsum([len(piece) for piece in pieces])[:-1] / RATE
    assert ends == pytest.approx(pauses, abs=PAUSE)


@pytest.mark.parametrize("wave", [spoken(300), np.zeros(300 * RATE, np.float32)], ids=["no pause", "silence"])
def test_the_number_of_pieces_grows_as_the_length(wave):
    pieces = cut_at_pauses(wave, RATE)
    lengths = [len(piece) / RATE for piece in pieces]
    assert max(lengths) <= LONGEST and min(lengths[:-1]) >= SHORTEST and len(np.concatenate(pieces)) == len(wave)


def test_silence():
    assert is_silent(np.zeros(5)) and is_silent(np.zeros(0)) and is_silent(np.full(9, -0.0009))
    assert not is_silent(np.array([0, -0.002]))
