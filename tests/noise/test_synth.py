import numpy as np
import pytest

from irl.noise import synth


@pytest.mark.parametrize("rate", [8000, 16000])
def test_clips_are_functions_of_their_names(rate):
    for make in (synth.noise_clip, synth.music_clip):
        clips = [make("train", i, 2.0, rate) for i in range(5)]
        assert all(np.array_equal(make("train", i, 2.0, rate), x) for i, x in enumerate(clips))
        assert not any(np.array_equal(make("test", i, 2.0, rate), x) for i, x in enumerate(clips))
        for x in clips:
            assert len(x) == 2 * rate and x.dtype == np.float32 and np.isfinite(x).all() and np.abs(x).max() <= 1
            assert -32 < 10 * np.log10(np.mean(x**2)) < -25.9


def test_rooms_decay_and_repeat():
    pytest.importorskip("pyroomacoustics")
    x = synth.room_response("test", 0, 16000, medium=False)
    assert np.array_equal(x, synth.room_response("test", 0, 16000, medium=False))
    assert not np.array_equal(x, synth.room_response("test", 1, 16000, medium=False))
    peak = int(np.abs(x).argmax())
    energy = np.cumsum(x[::-1] ** 2)[::-1]
    assert np.abs(x).max() == 1 and len(x) <= 8000
    assert energy[min(peak + 3200, len(x) - 1)] < 0.1 * energy[0], "most energy comes in the first 200 ms"
