"""Squares that are the middle of an image."""

from PIL import Image, ImageOps


def square(image, facts):
    """As much of the middle as fits."""
    return ImageOps.fit(image, (facts["size"], facts["size"]), Image.Resampling[facts["resample"]])
