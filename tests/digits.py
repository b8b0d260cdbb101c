"""Handwritten digits of scikit-learn as pictures in folders, one for each class, and as a table."""

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


MARKS = {
    0: "loop",
    1: "line",
    2: "curve",
    3: "curve",
    4: "line",
    5: "curve|line",
    6: "loop",
    7: "line",
    8: "loop",
    9: "",
}
"""What strokes a digit has; of the last nothing is known."""
SHEET = 20
"""Digits that stand one after the other on a sheet, as one person wrote them."""


def table(folder, count, names=("digits.csv", "guide.npy", "said.npy", "apart.npy")):
    """The first `count` with what a relation may ask: sheets and times of writing, marks, a family, the next one.

    Beside the table three arrays: embeddings of another model, a matrix of pairs, and one of distances.
    """
    rows, labels = load().data[:count], load().target[:count]
    header = [*(f"x{at}" for at in range(rows.shape[1])), "id", "digit", "sheet", "second", "marks", "family", "next"]
    lines = [",".join(header)]
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        family = "round" if label in (0, 3, 6, 8, 9) else "edged"
        known = [f"d{number}", label, f"s{number // SHEET}", 3 * number, MARKS[label], family, f"d{number ^ 1}"]
        lines.append(",".join(map(str, [*row, *known])))
    (folder / names[0]).write_text("\n".join(lines))
    np.save(folder / names[1], rows[:, ::4].astype(np.float32))
    np.save(folder / names[2], (labels[:, None] % 5 == labels % 5).astype(np.int8))
    np.save(folder / names[3], np.abs(labels[:, None] - labels).astype(np.float32))


def picture(number, size):
    """One of them."""
    return Image.fromarray(np.uint8(load().images[number] * 15.9)).resize((size, size))
