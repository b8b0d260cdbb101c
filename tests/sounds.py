"""Files of sound, made on the spot."""

import wave

import numpy as np


def write(path, samples, rate=8000, width=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.atleast_2d(np.asarray(samples, np.float64))
    with wave.open(str(path), "wb") as file:
        file.setparams((len(samples), width, rate, 0, "NONE", ""))
        scaled = samples.T * (2 ** (8 * width - 1) - 1) if width > 1 else samples.T * 127 + 128
        file.writeframes(np.round(scaled).astype({1: np.uint8, 2: "<i2", 4: "<i4"}[width]).tobytes())
    return path


def tone(frequency, seconds=0.5, rate=8000):
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
