"""The examples of one step."""

from dataclasses import dataclass

from jaxtyping import Int64
from torch import Tensor

from tuplet.data.dataset import Dataset, Inputs, take


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples of a data set.

    Args:
        inputs: Stored form of the examples.
        labels: Their labels, as in `Dataset.labels.values`; None without labels.
        positions: Their rows in the data set, which are also their rows in a memory bank.
        partners: Their second inputs, where examples are pairs.
    """

    inputs: Inputs
    labels: Tensor | None
    positions: Int64[Tensor, " batch"]
    partners: Inputs | None = None


def take_batch(dataset: Dataset, positions: Int64[Tensor, " batch"]) -> Batch:
    """The examples of `dataset` at `positions`, in that order."""
    values = None if dataset.labels.supervision == "none" else dataset.labels.values[positions]
    partners = None if dataset.partners is None else take(dataset.partners, positions)
    return Batch(take(dataset.inputs, positions), values, positions, partners)
