"""Squares that are a whole image, stretched."""

from PIL import Image


def square(image, facts):
    """The whole image, stretched."""
    return image.resize((facts["size"], facts["size"]), Image.Resampling[facts["resample"]])
