"""Squares that are the middle of an image whose shorter side was given a length before."""

from PIL import Image


def square(image, facts):
    """The middle, once the shorter side is `resize` pixels long."""
    size, shorter, by = facts["size"], min(image.size), Image.Resampling[facts["resample"]]
    image = image.resize([int(facts["resize"] * side / shorter) for side in image.size], by)
    left, top = ((side - size) // 2 for side in image.size)
    return image.crop((left, top, left + size, top + size))
