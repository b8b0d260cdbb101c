"""Squares that hold a whole image."""

import numpy as np
from PIL import Image, ImageOps


def square(image, facts):
    """The whole image, filled up with the mean colour of its border."""
    grid = np.atleast_3d(image).astype(float)
    border = np.concatenate([grid[0], grid[-1], grid[:, 0], grid[:, -1]])
    color = tuple(border.mean(0).round().astype(int).tolist())
    return ImageOps.pad(image, (facts["size"], facts["size"]), Image.Resampling[facts["resample"]], color)
