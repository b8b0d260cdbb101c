"""Embed images without tuplet: `python embed.py a.jpg b.png` prints one row of numbers for each."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tuplet.app.standalone.by_crop import square
from tuplet.app.standalone.with_torch import embed


def read(path, facts):
    """An image as the network reads it, uint8 (channels, size, size)."""
    with Image.open(path) as file:
        file.draft(None, (2 * facts["short"], 2 * facts["short"]))  # a JPEG is decoded at a fraction of its size
        image = ImageOps.exif_transpose(file)
    if image.mode[0] in "IF":  # more than 8 bits
        image = Image.fromarray(np.interp(image, facts["levels"], (0, 255)).round().astype(np.uint8))
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.atleast_3d(square(image.convert(facts["mode"]), facts)).transpose(2, 0, 1)


if __name__ == "__main__":
    here = Path(__file__).parent
    facts = json.loads((here / "model.json").read_text(encoding="utf-8"))
    for row in embed(here, np.stack([read(path, facts) for path in sys.argv[1:]])):
        print(json.dumps(row.tolist()))
