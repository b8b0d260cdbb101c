"""What all losses under names of pytorch-metric-learning share: settings, the call, what a miner chose."""

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tuplet import losses
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.errors import LabelError
from tuplet.interop.settings import Became, CosineSimilarity, compared, reducer_name, refused
from tuplet.relations import matrix
from tuplet.rule import Rule

Indices = Sequence[Tensor] | None
"""Rows of anchors, positives and negatives; or of anchors, positives, anchors and negatives."""

SEPARATE = 2**62
"""Added to labels below 0, which are classes like any other there, and no class here."""


class Shim(nn.Module):
    """Base of the losses under names of pytorch-metric-learning.

    Args:
        given: As there.
        processes: Who computes the loss together.
        named: As there.

    Attributes:
        became: What it is here.
        loss: That loss.
    """

    otherwise: ClassVar[object] = CosineSimilarity()
    """Its own distance; others are refused where `become` does not ask `how` embeddings are compared."""
    reducers: ClassVar[tuple[str, ...]] = ("MeanReducer",)
    """Its own reducer, and others that `become` knows, which asks for the `mean` then."""

    def __init__(self, *given: Any, processes: Processes = SINGLE_PROCESS, **named: Any) -> None:
        super().__init__()
        self.became = translated(type(self), given, named)
        self.processes = processes
        self.loss = self._built({**self.became.options, "processes": processes})

    @staticmethod
    def become(*given: Any, **named: Any) -> Became:
        """What settings mean here; `how` and `mean` are what the distance and the reducer are."""
        raise NotImplementedError

    def _built(self, options: dict[str, Any]) -> Any:
        return losses.registry[self.became.name](**options)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: Indices = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            embeddings: (rows, dim).
            labels: One class each; may be missing where `indices_tuple` is given.
            indices_tuple: What a miner chose.
            ref_emb: What embeddings are compared with, if it is not the batch itself.
            ref_labels: Its classes.
        """
        if labels is None and indices_tuple is None:
            raise LabelError(
                f"{type(self).__name__} was called without labels and without indices_tuple.",
                hint="Pass the class of each row.",
                reference="labels-missing",
            )
        labels, ref_labels = (None if x is None else separated(x) for x in (labels, ref_labels))
        if indices_tuple is not None:
            return self.listed(embeddings, embeddings if ref_emb is None else ref_emb, tuple(indices_tuple))
        sides = {} if ref_emb is None else {"references": ref_emb, "reference_labels": ref_labels}
        return self._all(embeddings, labels, sides)

    def ruled(self, embeddings: Tensor, others: Tensor, rule: Rule, positives: Tensor) -> Tensor:
        """The loss of embeddings against a second set.

        Args:
            embeddings: (rows, dim).
            others: The second set.
            rule: Says who belongs together.
            positives: How many others belong to each row.
        """
        del positives
        return self.loss(embeddings, references=others, relation=rule)

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        return self.loss(embeddings, labels, **sides)

    def listed(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        """The loss of what a miner chose, rows of embeddings and of others."""
        del embeddings, others, mined
        raise refused(
            type(self).__name__,
            "it was given indices_tuple, of which this loss makes nothing",
            "Leave the miner out, or use a loss of listed pairs or triplets.",
        )


class RowShim(Shim):
    """Base of losses of rows: what a miner chose is all that a row meets."""

    counts_pairs: ClassVar[bool] = False
    """Whether a pair that is in several triplets counts several times there."""

    def listed(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        """The loss of pairs that a miner chose."""
        if self.counts_pairs:
            refuse_triplets(type(self).__name__, mined)
        sides = {} if others is embeddings else {"references": others}
        return self.loss(embeddings, relation=matrix(said_of(embeddings, others, mined)), **sides)


class BatchShim(Shim):
    """Base of losses that compare a batch with itself, and with all of it."""

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        if sides:
            raise refused(type(self).__name__, "it was given ref_emb", "Call loss(embeddings, labels).")
        return self.loss(embeddings, labels)


def translated(kind: type[Shim], given: tuple[Any, ...], named: dict[str, Any]) -> Became:
    """What settings mean here; those that are unknown are refused.

    Raises:
        ShapeError: If they have no equal here.
    """
    settings = {key: value for key, value in named.items() if key not in ("distance", "reducer")}
    how, own = (compared(kind.__name__, x, kind.otherwise) for x in (named.get("distance"), None))
    mean = reducer_name(kind.__name__, named.get("reducer"), *kind.reducers)
    asked = inspect.signature(kind.become).parameters
    if "how" not in asked and how != own:
        raise refused(kind.__name__, "it was given another distance", "Leave distance out.")
    known = {key: value for key, value in (("how", how), ("mean", mean)) if key in asked}
    try:
        return kind.become(*given, **settings, **known)
    except TypeError as error:
        raise refused(
            kind.__name__,
            f"its settings have no equal here ({error})",
            "Regularisers are terms of your own; weights are set after the loss is built: loss.loss.weight.",
        ) from error


def refuse_triplets(name: str, mined: tuple[Tensor, ...]) -> None:
    """Of a loss of pairs, each of which counts once.

    Raises:
        ShapeError: If a miner chose triplets.
    """
    if len(mined) == 3:
        raise refused(
            name,
            "it was given triplets, where a pair counts as often as triplets have it",
            "Give it pairs: a, p, a, n, each once.",
        )


def separated(labels: Tensor) -> Tensor:
    """Labels below 0 as classes; -1 would leave a row out."""
    return torch.where(labels < 0, labels + SEPARATE, labels)


def said_of(embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
    """What a miner chose, pair by pair: 1, 0, or -1 for nothing."""
    a, p, b, n = (mined[0], mined[1], mined[0], mined[2]) if len(mined) == 3 else mined
    said = torch.full((len(embeddings), len(others)), -1, dtype=torch.int8, device=embeddings.device)
    said[b, n] = 0
    said[a, p] = 1
    return said


def triplets_of(a: Tensor, p: Tensor, b: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positive and negative pairs of one anchor as triplets."""
    first, second = (a[:, None] == b).nonzero(as_tuple=True)
    return a[first], p[first], n[second]
