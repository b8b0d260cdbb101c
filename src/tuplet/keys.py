"""Keys of anchors and of references, and how two of them are compared, in plain tensor code that asks for no value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tuplet.types import DistanceName

Keys = dict[str, Tensor]
"""What pairs are compared by: one entry per anchor or per reference."""

Compare = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], tuple[Tensor, Tensor, Tensor | None]]
"""Keys of rows (rows, 1, ...) and of columns (1, cols, ...), `place` of the columns among them -> positive and negative
pairs, both bool (rows, cols), and label distances or None. Plain tensor code that asks for no value, and reads as few
keys of columns as it can: each is read for every row."""

LabelDistance = Callable[[Tensor, Tensor], Tensor]
"""Labels of anchors (rows, values) and of references (cols, values) -> their distances >= 0, (rows, cols)."""


def equal_labels(rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
    """Positive if the ids are one, negative if they differ; -1 is unknown."""
    same = rows["label"] == cols["label"]
    return same & (rows["label"] != -1), ~same & (cols["label"] != -1), None


def shared_labels(rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
    """Positive if a label is shared."""
    share = (rows["labels"][:, 0] @ cols["labels"][0].T) > 0
    return share, ~share, None


def paired(rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
    """Positive if the column is the row's partner."""
    positive = rows["partner"] == cols["place"]
    return positive, ~positive, None


@dataclass(frozen=True)
class ByDistance:
    """Compares graded labels; every pair counts as a negative."""

    geometry: DistanceName | LabelDistance

    def __call__(self, rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """See `Compare`."""
        mine, theirs = rows["values"], cols["values"]
        if callable(self.geometry):
            apart = self.geometry(mine[:, 0], theirs[0])
        else:
            apart = (mine[..., 0] - theirs[..., 0]).square()
            for k in range(1, mine.shape[-1]):
                apart = apart + (mine[..., k] - theirs[..., k]).square()
            apart = apart.sqrt() if self.geometry == "euclidean" else apart
        nothing = torch.zeros_like(apart, dtype=torch.bool)
        return nothing, ~nothing, apart
