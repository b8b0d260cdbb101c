"""Handwritten digits of scikit-learn as pictures in folders, one for each class."""

from functools import cache

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

load = cache(load_digits)


def write(folder, count, size, named=str):
    """The first `count` as `CLASS/NUMBER.png`, of `size` by `size` pixels."""
    for number in range(count):
        place = folder / named(load().target[number])
        place.mkdir(parents=True, exist_ok=True)
        picture(number, size).save(place / f"{number:04d}.png")


def picture(number, size):
    """One of them."""
    return Image.fromarray(np.uint8(load().images[number] * 15.9)).resize((size, size))
