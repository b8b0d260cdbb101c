"""Many small pictures in one: the page carries one image and shows parts of it."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_QUALITIES = (90, 75, 60, 45, 30)


@dataclass(frozen=True)
class Sheet:
    """Tiles of equal size in one image.

    Args:
        uri: The image as a `data:` address.
        columns: Tiles per row.
        rows: Rows of tiles.
        aspect: Width of a tile divided by its height.
        tiles: Number of the tile of each position that is on the sheet.
    """

    uri: str
    columns: int
    rows: int
    aspect: float
    tiles: Mapping[int, int]

    def place(self, position: int) -> tuple[int, int]:
        """Column and row of the tile that shows `position`."""
        return self.tiles[position] % self.columns, self.tiles[position] // self.columns


def draw_sheet(images: NDArray[np.uint8], positions: Sequence[int], *, edge: int, budget: int) -> Sheet:
    """Put the images at `positions` on one sheet.

    Args:
        images: uint8 images (n, channels, height, width), 1 or 3 channels.
        positions: Which of them, in this order.
        edge: Longest side of a tile in pixels; smaller images keep their size.
        budget: Most bytes of the sheet before its base64 form; quality gives way to it.
    """
    shrink = min(1.0, edge / max(images.shape[2:]))
    height, width = (max(1, round(side * shrink)) for side in images.shape[2:])
    columns = max(1, math.ceil(math.sqrt(len(positions) * height / width)))
    rows = math.ceil(len(positions) / columns)
    mode = "L" if images.shape[1] == 1 else "RGB"
    canvas = Image.new(mode, (columns * width, rows * height))
    for tile, position in enumerate(positions):
        pixels = images[position].transpose(1, 2, 0)  # (height, width, channels)
        picture = Image.fromarray(np.ascontiguousarray(pixels.squeeze(2) if mode == "L" else pixels))
        if shrink < 1:
            picture = picture.resize((width, height), Image.Resampling.LANCZOS)
        canvas.paste(picture, (tile % columns * width, tile // columns * height))
    uri = "data:image/webp;base64," + base64.b64encode(_compress(canvas, budget)).decode()
    return Sheet(uri, columns, rows, width / height, {position: tile for tile, position in enumerate(positions)})


def _compress(canvas: Image.Image, budget: int) -> bytes:
    for quality in _QUALITIES:
        file = io.BytesIO()
        canvas.save(file, "WEBP", quality=quality, method=2)
        if file.tell() <= budget:
            break
    return file.getvalue()
