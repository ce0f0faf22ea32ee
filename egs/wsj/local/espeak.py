"""Synthetic speech by eSpeak NG, offline, from the package espeakng-loader (GPL-3, an optional dependency)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from irl.core.errors import UserError

RATE = 22050
# espeak_PARAMETER, espeak_AUDIO_OUTPUT and flags of speak_lib.h.
_RATE_PARAMETER, _PITCH_PARAMETER, _SYNCHRONOUS, _CHARS_UTF8 = 1, 3, 2, 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Espeak:
    """The library, initialised once. `speak` is a function of its arguments only in a process forked for that call:
    the library keeps state from one utterance to the next.
    """

    def __init__(self) -> None:
        try:
            import espeakng_loader
        except ImportError:
            raise UserError("espeakng-loader is not installed; it is part of irl[speech]") from None
        self.library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        if self.library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0) != RATE:
            raise UserError("eSpeak NG did not initialise as expected")
        self._chunks: list[np.ndarray] = []

        def receive(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        self._receive = _CALLBACK(receive)  # kept alive: the library holds only a pointer
        self.library.espeak_SetSynthCallback(self._receive)

    def speak(self, text: str, voice: str, words_per_minute: int, pitch: int) -> np.ndarray:
        """float32 (n,) at RATE. voice: such as "en-us+f2"; pitch: 0-100."""
        if self.library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(f"eSpeak NG has no voice {voice!r}")
        self.library.espeak_ng_SetRandSeed(1)
        self.library.espeak_SetParameter(_RATE_PARAMETER, words_per_minute, 0)
        self.library.espeak_SetParameter(_PITCH_PARAMETER, pitch, 0)
        self._chunks = []
        data = text.encode()
        self.library.espeak_Synth(data, len(data) + 1, 0, 0, 0, _CHARS_UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self._chunks).astype(np.float32) / 32768
