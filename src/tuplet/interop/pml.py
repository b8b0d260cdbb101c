"""Losses under the names, with the defaults and with the calls of pytorch-metric-learning 2.9, which is not imported.

`loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)` has the value and the gradient that it has there, where
the meaning is the same, and is refused in words where it is not. `become` says what a name stands for.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tuplet import losses
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.engine.gather import all_gather
from tuplet.errors import LabelError
from tuplet.geometry import normalise
from tuplet.interop.settings import (
    Became,
    DotProductSimilarity,
    LpDistance,
    compared,
    reducer_name,
    refused,
    similarity,
)
from tuplet.registry import did_you_mean

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

    def __init__(self, *given: Any, processes: Processes = SINGLE_PROCESS, **named: Any) -> None:
        super().__init__()
        self.became = _translated(type(self), given, named)
        self.processes = processes
        self.loss = self._built({**self.became.options, "processes": processes})

    @staticmethod
    def become(*given: Any, **named: Any) -> Became:
        """What settings mean here."""
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
        labels, ref_labels = _apart_from_unknown(labels), _apart_from_unknown(ref_labels)
        if indices_tuple is not None:
            return self._mined(embeddings, embeddings if ref_emb is None else ref_emb, tuple(indices_tuple))
        sides = {} if ref_emb is None else {"references": ref_emb, "reference_labels": ref_labels}
        return self._all(embeddings, labels, sides)

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        return self.loss(embeddings, labels, **sides)

    def _mined(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        del embeddings, others, mined
        raise refused(
            type(self).__name__,
            "it was given indices_tuple, of which this loss makes nothing",
            "Leave the miner out, or use a loss of listed pairs or triplets.",
        )


class TripletMarginLoss(Shim):
    """`TripletMarginLoss`: all triplets, those of a miner, or, of pairs, those that share their anchor."""

    @staticmethod
    def become(
        margin: float = 0.05,
        swap: bool = False,
        smooth_loss: bool = False,
        triplets_per_anchor: str = "all",
        *,
        distance: object = None,
        reducer: object = None,
    ) -> Became:
        """`triplet`, on the unit sphere."""
        name = "TripletMarginLoss"
        if triplets_per_anchor != "all":
            raise refused(name, "triplets_per_anchor draws triplets at random", 'Use triplets_per_anchor = "all".')
        how = compared(name, distance, LpDistance())
        mean = reducer_name(name, reducer, "AvgNonZeroReducer", "MeanReducer")
        options: dict[str, Any] = {"margin": margin, "geometry": how.geometry}
        options |= {"normalise": True} if how.normalise else {}
        options |= {"select": "swap"} if swap else {}
        options |= {"soft": "margin"} if smooth_loss else {}
        return Became("triplet", options | ({"mean_over": "all"} if mean == "MeanReducer" else {}))

    def _mined(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        a, p, n = mined if len(mined) == 3 else _joined(*mined)
        return self.loss(embeddings[a], positives=others[p], negatives=others[n])


class ContrastiveLoss(Shim):
    """`ContrastiveLoss`: means over active positives and over active negatives, added."""

    @staticmethod
    def become(
        pos_margin: float | None = None,
        neg_margin: float | None = None,
        *,
        distance: object = None,
        reducer: object = None,
    ) -> Became:
        """`contrastive` in the convention "note" and the mean "apart"."""
        name = "ContrastiveLoss"
        how = compared(name, distance, LpDistance())
        reducer_name(name, reducer, "AvgNonZeroReducer")
        pos_margin, neg_margin = 0.0 if pos_margin is None else pos_margin, 1.0 if neg_margin is None else neg_margin
        if how.is_similarity:  # of a distance 1 - s, or -s
            top = 1.0 if how.geometry == "cosine" else 0.0
            pos_margin, neg_margin = top - pos_margin, top - neg_margin
        if min(pos_margin, neg_margin) < 0:
            raise refused(
                name,
                "a margin of a similarity above 1, or of an inner product above 0, has no equal here",
                "Use pos_margin = 1 and neg_margin = 0, say, with CosineSimilarity.",
            )
        options: dict[str, Any] = {"margin": neg_margin, "convention": "note", "geometry": how.geometry}
        options |= {"pos_margin": pos_margin} if pos_margin else {}
        return Became("contrastive", {**options, "mean_over": "apart"} | ({"normalise": True} if how.normalise else {}))

    def _mined(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        a, p, b, n = (mined[0], mined[1], mined[0], mined[2]) if len(mined) == 3 else mined
        first, second = torch.cat([embeddings[a], embeddings[b]]), torch.cat([others[p], others[n]])
        same = torch.arange(len(first), device=first.device) < len(a)
        return self.loss(first, references=second, same=same)


class SupConLoss(Shim):
    """`SupConLoss`: 0 where all are of one class."""

    @staticmethod
    def become(temperature: float = 0.1, *, distance: object = None, reducer: object = None) -> Became:
        """`supcon`, for anchors that have a negative."""
        reducer_name("SupConLoss", reducer, "AvgNonZeroReducer")
        geometry = similarity("SupConLoss", distance)
        return Became("supcon", {"temperature": temperature, "geometry": geometry, "one_class": "skip"})


class NTXentLoss(Shim):
    """`NTXentLoss`: the mean over all positive pairs."""

    @staticmethod
    def become(temperature: float = 0.07, *, distance: object = None, reducer: object = None) -> Became:
        """`nt_xent`, each row with as much weight as it has positives."""
        reducer_name("NTXentLoss", reducer, "MeanReducer")
        note = "the mean is over rows in a recipe, which is the same where all classes of a batch are as large"
        return Became("nt_xent", {"temperature": temperature, "geometry": similarity("NTXentLoss", distance)}, note)

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        mine = embeddings.new_zeros(0, dtype=torch.int64) if labels is None else labels
        ordered = all_gather(sides.get("reference_labels", mine), self.processes).sort().values
        positives = torch.searchsorted(ordered, mine, right=True) - torch.searchsorted(ordered, mine)
        if not sides:
            return self.loss(embeddings, labels, weights=(positives - 1).to(embeddings.dtype))
        # nt_xent takes a second set for second views; the N-pair loss has the same rows, by inner products
        is_unit, scale = self.loss.geometry == "cosine", 1 / self.became.options["temperature"]
        anchors, references = (normalise(x) if is_unit else x for x in (embeddings, sides["references"]))
        given = {**sides, "references": references, "weights": positives.to(embeddings.dtype)}
        return losses.npair(anchors * scale, labels, **given, processes=self.processes)


class MultiSimilarityLoss(Shim):
    """`MultiSimilarityLoss`, without its miner."""

    @staticmethod
    def become(
        alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, *, distance: object = None, reducer: object = None
    ) -> Became:
        """`multi_similarity`."""
        name = "MultiSimilarityLoss"
        reducer_name(name, reducer, "MeanReducer")
        _cosine_alone(name, distance)
        return Became("multi_similarity", {"alpha": alpha, "beta": beta, "base": base})


class CircleLoss(Shim):
    """`CircleLoss`."""

    @staticmethod
    def become(m: float = 0.4, gamma: float = 80.0, *, distance: object = None, reducer: object = None) -> Became:
        """`circle`."""
        reducer_name("CircleLoss", reducer, "AvgNonZeroReducer")
        _cosine_alone("CircleLoss", distance)
        return Became("circle", {"margin": m, "gamma": gamma})


class NCALoss(Shim):
    """`NCALoss`."""

    @staticmethod
    def become(softmax_scale: float = 1.0, *, distance: object = None, reducer: object = None) -> Became:
        """`nca`; squared distances of unit vectors are 2 - 2 cosines."""
        reducer_name("NCALoss", reducer, "MeanReducer")
        how = compared("NCALoss", distance, LpDistance(power=2))
        if how.normalise and how.geometry == "euclidean":
            raise refused("NCALoss", "it was given distances of unit vectors", "Use LpDistance with power = 2.")
        unit = {"scale": 2 * softmax_scale, "geometry": "cosine"}
        return Became("nca", unit if how.normalise else {"scale": softmax_scale, "geometry": how.geometry})


class GeneralizedLiftedStructureLoss(Shim):
    """`GeneralizedLiftedStructureLoss`."""

    @staticmethod
    def become(
        neg_margin: float = 1.0, pos_margin: float = 0.0, *, distance: object = None, reducer: object = None
    ) -> Became:
        """`generalized_lifted`."""
        name = "GeneralizedLiftedStructureLoss"
        reducer_name(name, reducer, "MeanReducer")
        how = compared(name, distance, LpDistance())
        options: dict[str, Any] = {"margin": neg_margin - pos_margin, "geometry": how.geometry}
        note = "rows without a positive, or without a negative, are left out; there they count, with one of both sums"
        return Became("generalized_lifted", options | ({"normalise": True} if how.normalise else {}), note)


class FastAPLoss(Shim):
    """`FastAPLoss`."""

    @staticmethod
    def become(num_bins: int = 10, *, distance: object = None, reducer: object = None) -> Became:
        """`fast_ap`."""
        reducer_name("FastAPLoss", reducer, "MeanReducer")
        how = compared("FastAPLoss", distance, LpDistance(power=2))
        if how != compared("FastAPLoss", None, LpDistance(power=2)):
            raise refused("FastAPLoss", "it was given another distance", "Leave distance out.")
        return Became("fast_ap", {"bins": num_bins})


class NPairsLoss(Shim):
    """`NPairsLoss`: of each class the first two rows."""

    @staticmethod
    def become(*, distance: object = None, reducer: object = None) -> Became:
        """`npair` by inner products; `info_nce` by cosines."""
        reducer_name("NPairsLoss", reducer, "MeanReducer")
        if similarity("NPairsLoss", distance, DotProductSimilarity()) == "dot":
            return Became("npair")
        why = "a recipe of info_nce compares all rows of a class; N-pair is by inner products of embeddings as they are"
        return Became("info_nce", {"temperature": 1.0}, only_called=f"{why}: set distance = DotProductSimilarity")

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        if sides or labels is None:
            raise refused("NPairsLoss", "it was given ref_emb", "Call tuplet.losses.npair(first, references=second).")
        order = labels.argsort(stable=True)
        ordered = labels[order]
        first = torch.cat([torch.ones_like(ordered[:1], dtype=torch.bool), ordered[1:] != ordered[:-1]])
        at = first.nonzero()[:, 0]
        at = at[at + 1 < len(ordered)]
        at = at[~first[at + 1]]  # the class has a second row
        return self.loss(embeddings[order[at]], references=embeddings[order[at + 1]])


class _Head(Shim):
    """Base of losses over class weights, or proxies."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, num_classes: int, embedding_size: int, *given: Any, processes: Processes = SINGLE_PROCESS, **named: Any
    ) -> None:
        self.sizes = {"num_classes": num_classes, "dim": embedding_size}
        super().__init__(*given, processes=processes, **named)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sizes are known before the module is."""
        object.__setattr__(self, name, value) if name == "sizes" else super().__setattr__(name, value)

    def _built(self, options: dict[str, Any]) -> Any:
        return super()._built({**self.sizes, **options})

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        if sides:
            raise refused(type(self).__name__, "it was given ref_emb", "Call loss(embeddings, labels).")
        return self.loss(embeddings, labels)

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Scores of all classes without a margin, (rows, classes)."""
        return self.loss.logits(embeddings)


class ArcFaceLoss(_Head):
    """`ArcFaceLoss`; the margin is in degrees."""

    @staticmethod
    def become(margin: float = 28.6, scale: float = 64.0, *, distance: object = None, reducer: object = None) -> Became:
        """`combined_margin`, with the straight line beyond π."""
        reducer_name("ArcFaceLoss", reducer, "MeanReducer")
        _cosine_alone("ArcFaceLoss", distance)
        options = {"m1": 1.0, "m2": math.radians(margin), "m3": 0.0, "extension": "linear", "scale": scale}
        return Became("combined_margin", options)


class SubCenterArcFaceLoss(_Head):
    """`SubCenterArcFaceLoss`; the margin is in degrees."""

    @staticmethod
    def become(
        margin: float = 28.6,
        scale: float = 64.0,
        sub_centers: int = 3,
        *,
        distance: object = None,
        reducer: object = None,
    ) -> Became:
        """The same with several vectors for each class."""
        found = ArcFaceLoss.become(margin, scale, distance=distance, reducer=reducer)
        return Became(found.name, {**found.options, "sub_centers": sub_centers})

    def get_outliers(self, embeddings: Tensor, labels: Tensor, threshold: float = 75.0) -> Tensor:
        """Rows that are further from the main center of their class than so many degrees."""
        return self.loss.outliers(embeddings, labels, angle=math.radians(threshold)).nonzero()[:, 0]


class CosFaceLoss(_Head):
    """`CosFaceLoss`."""

    @staticmethod
    def become(margin: float = 0.35, scale: float = 64.0, *, distance: object = None, reducer: object = None) -> Became:
        """`cosface`."""
        reducer_name("CosFaceLoss", reducer, "MeanReducer")
        _cosine_alone("CosFaceLoss", distance)
        return Became("cosface", {"margin": margin, "scale": scale})


class SphereFaceLoss(_Head):
    """`SphereFaceLoss`: without annealing."""

    @staticmethod
    def become(margin: int = 4, scale: float = 1.0, *, distance: object = None, reducer: object = None) -> Became:
        """`a_softmax`, λ = 0."""
        reducer_name("SphereFaceLoss", reducer, "MeanReducer")
        _cosine_alone("SphereFaceLoss", distance)
        if scale != 1:
            raise refused("SphereFaceLoss", f"scale is {scale}", "Multiply the embeddings: their length is the scale.")
        return Became("a_softmax", {"margin": margin, "annealing": 0.0})


class NormalizedSoftmaxLoss(_Head):
    """`NormalizedSoftmaxLoss`."""

    @staticmethod
    def become(temperature: float = 0.05, *, distance: object = None, reducer: object = None) -> Became:
        """`cosface` without a margin."""
        reducer_name("NormalizedSoftmaxLoss", reducer, "MeanReducer")
        if similarity("NormalizedSoftmaxLoss", distance, DotProductSimilarity()) != "cosine":
            raise refused("NormalizedSoftmaxLoss", "embeddings of any length were asked for", "Leave distance out.")
        return Became("cosface", {"margin": 0.0, "scale": 1 / temperature})


class ProxyNCALoss(_Head):
    """`ProxyNCALoss`."""

    @staticmethod
    def become(softmax_scale: float = 1.0, *, distance: object = None, reducer: object = None) -> Became:
        """`proxy_nca`."""
        reducer_name("ProxyNCALoss", reducer, "MeanReducer")
        if compared("ProxyNCALoss", distance, LpDistance(power=2)).geometry != "squared_euclidean":
            raise refused("ProxyNCALoss", "it was given another distance", "Leave distance out.")
        return Became("proxy_nca", {"scale": softmax_scale})


class ProxyAnchorLoss(_Head):
    """`ProxyAnchorLoss`."""

    @staticmethod
    def become(margin: float = 0.1, alpha: float = 32.0, *, distance: object = None, reducer: object = None) -> Became:
        """`proxy_anchor`."""
        reducer_name("ProxyAnchorLoss", reducer, "DivisorReducer")
        _cosine_alone("ProxyAnchorLoss", distance)
        return Became("proxy_anchor", {"margin": margin, "alpha": alpha})


LOSSES: dict[str, type[Shim]] = {
    kind.__name__: kind
    for kind in (
        ArcFaceLoss,
        CircleLoss,
        ContrastiveLoss,
        CosFaceLoss,
        FastAPLoss,
        GeneralizedLiftedStructureLoss,
        MultiSimilarityLoss,
        NCALoss,
        NPairsLoss,
        NTXentLoss,
        NormalizedSoftmaxLoss,
        ProxyAnchorLoss,
        ProxyNCALoss,
        SphereFaceLoss,
        SubCenterArcFaceLoss,
        SupConLoss,
        TripletMarginLoss,
    )
}
"""What there is, by name."""


def become(name: str, **settings: Any) -> Became:
    """What a loss of pytorch-metric-learning is here.

    Args:
        name: Of its class there.
        settings: Of its constructor, but for sizes.

    Raises:
        ShapeError: If it has no equal here.
    """
    if name not in LOSSES:
        raise refused(name, "no loss here is known to be equal to it", did_you_mean(name, sorted(LOSSES)))
    return _translated(LOSSES[name], (), settings)


class SelfSupervisedLoss(nn.Module):
    """`SelfSupervisedLoss`: row i of both belongs together.

    Args:
        loss: One of the losses above.
        symmetric: Both are one set; otherwise the second is what the first is compared with.
    """

    def __init__(self, loss: Shim, symmetric: bool = True) -> None:
        super().__init__()
        self.loss = loss
        self.symmetric = symmetric

    def forward(self, embeddings: Tensor, ref_emb: Tensor) -> Tensor:
        """The loss of two views.

        Args:
            embeddings: First views, (rows, dim).
            ref_emb: Second views.
        """
        labels = torch.arange(len(embeddings), device=embeddings.device)
        if not self.symmetric:
            return self.loss(embeddings, labels, ref_emb=ref_emb, ref_labels=labels)
        return self.loss(torch.cat([embeddings, ref_emb]), torch.cat([labels, labels]))


def _translated(kind: type[Shim], given: tuple[Any, ...], named: dict[str, Any]) -> Became:
    try:
        return kind.become(*given, **named)
    except TypeError as error:
        raise refused(
            kind.__name__,
            f"its settings have no equal here ({error})",
            "Regularisers are terms of your own; weights are set after the loss is built: loss.loss.weight.",
        ) from error


def _cosine_alone(name: str, distance: object) -> None:
    if similarity(name, distance) != "cosine":
        raise refused(name, "it was given another distance than the cosine", "Leave distance out.")


def _apart_from_unknown(labels: Tensor | None) -> Tensor | None:
    """Labels below 0 as classes; -1 would leave a row out."""
    return None if labels is None else torch.where(labels < 0, labels + SEPARATE, labels)


def _joined(a: Tensor, p: Tensor, b: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positive and negative pairs of one anchor as triplets."""
    first, second = (a[:, None] == b).nonzero(as_tuple=True)
    return a[first], p[first], n[second]
