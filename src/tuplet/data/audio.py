"""Files of sound: whether a file is one, its samples, and the logarithm of its mel spectrogram.

The spectrogram of samples x at `rate` per second is

    S[m, t] = log(max(Σ_f M[m, f] · |Σ_n w[n] · x[t·hop + n] · e^(-2πi·f·n/N)|², 1e-10))

with the Hann window w[n] = (1 - cos(2πn/N)) / 2 of N samples, and triangles M whose corners lie at equal distances on
the mel scale 2595 · log10(1 + f/700), from 0 to rate/2. Frames lie within the sound, which is filled up to one window.
"""

import importlib.util
import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from tuplet.data.source_errors import SourceErrors
from tuplet.errors import MissingExtraError

SOUNDS = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
"""Endings of files of sound."""
_FLOOR = 1e-10
_SIGNATURES = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"\xff\xf3", b"FORM")
_UNREADABLE = (OSError, ValueError, EOFError, RuntimeError, IndexError, KeyError, struct.error)


def has_sound_name(path: Path) -> bool:
    """Whether the name of a file ends like that of a sound."""
    return path.suffix.lower() in SOUNDS


def is_sound(path: Path) -> bool:
    """Whether a file starts like a sound of a known format."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return (head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE") or head.startswith(_SIGNATURES)


def wrong_sound(path: Path) -> str:
    """Why a file cannot be a sound, from its head; "" if nothing speaks against it."""
    try:
        if not path.is_file():
            return "is not a regular file"
        if not path.stat().st_size:
            return "is empty"
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    return "" if is_sound(path) else "is not a sound"


def undecodable_sounds(paths: Sequence[Path]) -> dict[Path, str]:
    """The files that cannot be decoded, all of them being tried, and why."""
    found = {}
    for path in paths:
        try:
            _samples(path)
        except _UNREADABLE as error:
            found[path] = str(error) or type(error).__name__
    return found


def load_sounds(
    items: Sequence[Path | str], rate: int, *, mels: int, window: float, hop: float
) -> list[Float32[NDArray[Any], "channels steps"]]:
    """Sounds as series, decoded on all cores: mean over their channels, at one rate.

    Args:
        items: Files.
        rate: Samples a second.
        mels: Bands of the spectrogram, which are the channels of the series; 0 for the samples, one channel.
        window: Seconds of a frame of the spectrogram.
        hop: Seconds from one frame to the next.

    Raises:
        DataError: Files that cannot be decoded, all in one report.
        MissingExtraError: A format needs a package that is not installed.
    """
    problems = SourceErrors()

    def decode(item: Path | str) -> NDArray[np.float32] | str:
        try:
            samples = _resampled(*_samples(Path(item)), rate)
        except _UNREADABLE as error:
            return f"{os.fsencode(item).decode('utf-8', 'backslashreplace')}: {error}"
        return log_mel(samples, rate, mels=mels, window=window, hop=hop) if mels else samples[None]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [*pool.map(decode, items)]
    for one in found:
        if isinstance(one, str):
            problems.add("broken-sound", one)
    problems.raise_if_any()
    return [one for one in found if not isinstance(one, str)]


def log_mel(
    samples: Float32[NDArray[Any], " samples"], rate: int, *, mels: int, window: float, hop: float
) -> Float32[NDArray[Any], "mels frames"]:
    """The logarithm of the mel spectrogram; see the equation above.

    Args:
        samples: Of one sound.
        rate: Samples a second.
        mels: Bands.
        window: Seconds of a frame.
        hop: Seconds from one frame to the next.
    """
    size, step = max(2, round(window * rate)), max(1, round(hop * rate))
    filled = np.pad(samples, (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(filled, size)[::step]  # (frames, size)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * hann, axis=1)) ** 2
    return np.log(np.maximum(_triangles(rate, size, mels) @ power.T, _FLOOR)).astype(np.float32)


@lru_cache(maxsize=8)  # a pure function of three numbers, asked for every file
def _triangles(rate: int, size: int, mels: int) -> NDArray[np.float64]:
    """How much of each frequency each band takes: (mels, size // 2 + 1)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, mels + 2) / 2595) - 1)  # in Hz
    frequencies = np.arange(size // 2 + 1) * rate / size
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return np.clip(
        np.minimum((frequencies - left) / (middle - left), (right - frequencies) / (right - middle)), 0, None
    )


def _samples(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples of a file in [-1, 1], the mean of its channels, and their rate."""
    if path.suffix.lower() == ".wav":
        from scipy.io import wavfile  # noqa: PLC0415  optional: part of the extra `app`

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of chunks that hold no samples
            rate, found = wavfile.read(path)
    else:
        if importlib.util.find_spec("soundfile") is None:
            raise MissingExtraError(f"{path.suffix} is decoded with soundfile, which is not installed.", extra="audio")
        import soundfile  # noqa: PLC0415  an optional part

        found, rate = soundfile.read(path, dtype="float32")
    values = found.astype(np.float32)
    if found.dtype == np.uint8:
        values = (values - 128) / 128
    elif found.dtype.kind == "i":
        values /= float(2 ** (8 * found.dtype.itemsize - 1))
    values = values.mean(1) if values.ndim == 2 else values
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("it holds no samples" if not len(values) else "its samples are not finite")
    return values, int(rate)


def _resampled(samples: NDArray[np.float32], have: int, want: int) -> NDArray[np.float32]:
    if have == want:
        return samples
    from scipy.signal import resample_poly  # noqa: PLC0415  optional: part of the extra `app`

    common = gcd(have, want)
    return np.asarray(resample_poly(samples, want // common, have // common), dtype=np.float32)
