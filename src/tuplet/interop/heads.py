"""Losses over class weights and proxies under names of pytorch-metric-learning."""

import math
from typing import Any

from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.interop.settings import (
    Became,
    DotProductSimilarity,
    LpDistance,
    compared,
    reducer_name,
    refused,
    similarity,
)
from tuplet.interop.shim import Shim, refuse_all_but_cosine


class HeadShim(Shim):
    """Base of losses over class weights, or proxies."""

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


class ArcFaceLoss(HeadShim):
    """`ArcFaceLoss`; the margin is in degrees."""

    @staticmethod
    def become(margin: float = 28.6, scale: float = 64.0, *, distance: object = None, reducer: object = None) -> Became:
        """`combined_margin`, with the straight line beyond π."""
        reducer_name("ArcFaceLoss", reducer, "MeanReducer")
        refuse_all_but_cosine("ArcFaceLoss", distance)
        options = {"m1": 1.0, "m2": math.radians(margin), "m3": 0.0, "extension": "linear", "scale": scale}
        return Became("combined_margin", options)


class SubCenterArcFaceLoss(HeadShim):
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


class CosFaceLoss(HeadShim):
    """`CosFaceLoss`."""

    @staticmethod
    def become(margin: float = 0.35, scale: float = 64.0, *, distance: object = None, reducer: object = None) -> Became:
        """`cosface`."""
        reducer_name("CosFaceLoss", reducer, "MeanReducer")
        refuse_all_but_cosine("CosFaceLoss", distance)
        return Became("cosface", {"margin": margin, "scale": scale})


class SphereFaceLoss(HeadShim):
    """`SphereFaceLoss`: without annealing."""

    @staticmethod
    def become(margin: int = 4, scale: float = 1.0, *, distance: object = None, reducer: object = None) -> Became:
        """`a_softmax`, λ = 0."""
        reducer_name("SphereFaceLoss", reducer, "MeanReducer")
        refuse_all_but_cosine("SphereFaceLoss", distance)
        if scale != 1:
            raise refused("SphereFaceLoss", f"scale is {scale}", "Multiply the embeddings: their length is the scale.")
        return Became("a_softmax", {"margin": margin, "annealing": 0.0})


class NormalizedSoftmaxLoss(HeadShim):
    """`NormalizedSoftmaxLoss`."""

    @staticmethod
    def become(temperature: float = 0.05, *, distance: object = None, reducer: object = None) -> Became:
        """`cosface` without a margin."""
        reducer_name("NormalizedSoftmaxLoss", reducer, "MeanReducer")
        if similarity("NormalizedSoftmaxLoss", distance, DotProductSimilarity()) != "cosine":
            raise refused("NormalizedSoftmaxLoss", "embeddings of any length were asked for", "Leave distance out.")
        return Became("cosface", {"margin": 0.0, "scale": 1 / temperature})


class ProxyNCALoss(HeadShim):
    """`ProxyNCALoss`."""

    @staticmethod
    def become(softmax_scale: float = 1.0, *, distance: object = None, reducer: object = None) -> Became:
        """`proxy_nca`."""
        reducer_name("ProxyNCALoss", reducer, "MeanReducer")
        if compared("ProxyNCALoss", distance, LpDistance(power=2)).geometry != "squared_euclidean":
            raise refused("ProxyNCALoss", "it was given another distance", "Leave distance out.")
        return Became("proxy_nca", {"scale": softmax_scale})


class ProxyAnchorLoss(HeadShim):
    """`ProxyAnchorLoss`."""

    @staticmethod
    def become(margin: float = 0.1, alpha: float = 32.0, *, distance: object = None, reducer: object = None) -> Became:
        """`proxy_anchor`."""
        reducer_name("ProxyAnchorLoss", reducer, "DivisorReducer")
        refuse_all_but_cosine("ProxyAnchorLoss", distance)
        return Became("proxy_anchor", {"margin": margin, "alpha": alpha})
