"""Losses over class weights and proxies under names of pytorch-metric-learning."""

import math
from typing import Any

from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.interop.settings import Became, DotProductSimilarity, LpDistance, refused
from tuplet.interop.shim import BatchShim


class HeadShim(BatchShim):
    """Base of losses over class weights, or proxies."""

    def __init__(
        self, num_classes: int, embedding_size: int, *given: Any, processes: Processes = SINGLE_PROCESS, **named: Any
    ) -> None:
        self.sizes = {"num_classes": num_classes, "dim": embedding_size}
        super().__init__(*given, processes=processes, **named)

    def _built(self, options: dict[str, Any]) -> Any:
        return super()._built({**self.sizes, **options})

    def get_logits(self, embeddings: Tensor) -> Tensor:
        """Scores of all classes without a margin, (rows, classes)."""
        return self.loss.logits(embeddings)


class ArcFaceLoss(HeadShim):
    """`ArcFaceLoss`; the margin is in degrees."""

    @staticmethod
    def become(margin: float = 28.6, scale: float = 64.0) -> Became:
        """`combined_margin`, with the straight line beyond π."""
        options = {"m1": 1.0, "m2": math.radians(margin), "m3": 0.0, "extension": "linear", "scale": scale}
        return Became("combined_margin", options)


class SubCenterArcFaceLoss(HeadShim):
    """`SubCenterArcFaceLoss`; the margin is in degrees."""

    @staticmethod
    def become(margin: float = 28.6, scale: float = 64.0, sub_centers: int = 3) -> Became:
        """The same with several vectors for each class."""
        found = ArcFaceLoss.become(margin, scale)
        return Became(found.name, {**found.options, "sub_centers": sub_centers})

    def get_outliers(self, embeddings: Tensor, labels: Tensor, threshold: float = 75.0) -> Tensor:
        """Rows that are further from the main center of their class than so many degrees."""
        return self.loss.outliers(embeddings, labels, angle=math.radians(threshold)).nonzero()[:, 0]


class CosFaceLoss(HeadShim):
    """`CosFaceLoss`."""

    @staticmethod
    def become(margin: float = 0.35, scale: float = 64.0) -> Became:
        """`cosface`."""
        return Became("cosface", {"margin": margin, "scale": scale})


class SphereFaceLoss(HeadShim):
    """`SphereFaceLoss`: without annealing."""

    @staticmethod
    def become(margin: int = 4, scale: float = 1.0) -> Became:
        """`a_softmax`, λ = 0."""
        if scale != 1:
            raise refused("SphereFaceLoss", f"scale is {scale}", "Multiply the embeddings: their length is the scale.")
        return Became("a_softmax", {"margin": margin, "annealing": 0.0})


class NormalizedSoftmaxLoss(HeadShim):
    """`NormalizedSoftmaxLoss`."""

    otherwise = DotProductSimilarity()

    @staticmethod
    def become(temperature: float = 0.05) -> Became:
        """`cosface` without a margin."""
        return Became("cosface", {"margin": 0.0, "scale": 1 / temperature})


class ProxyNCALoss(HeadShim):
    """`ProxyNCALoss`."""

    otherwise = LpDistance(power=2)

    @staticmethod
    def become(softmax_scale: float = 1.0) -> Became:
        """`proxy_nca`."""
        return Became("proxy_nca", {"scale": softmax_scale})


class ProxyAnchorLoss(HeadShim):
    """`ProxyAnchorLoss`."""

    reducers = ("DivisorReducer",)

    @staticmethod
    def become(margin: float = 0.1, alpha: float = 32.0) -> Became:
        """`proxy_anchor`."""
        return Became("proxy_anchor", {"margin": margin, "alpha": alpha})


class SoftTripleLoss(HeadShim):
    """`SoftTripleLoss`, which has no penalty on centers there."""

    @staticmethod
    def become(centers_per_class: int = 10, la: float = 20, gamma: float = 0.1, margin: float = 0.01) -> Became:
        """`soft_triple`."""
        options = {"centers": centers_per_class, "scale": float(la), "gamma": gamma, "margin": margin}
        return Became("soft_triple", {**options, "penalty": 0.0})


class P2SGradLoss(HeadShim):
    """`P2SGradLoss`: the mean over rows and classes."""

    def __init__(self, descriptors_dim: int, num_classes: int, **named: Any) -> None:
        super().__init__(num_classes, descriptors_dim, **named)

    @staticmethod
    def become() -> Became:
        """`p2sgrad`."""
        note = "a row's loss is the sum over the classes in a recipe, and there the mean: so many times as much"
        return Became("p2sgrad", note=note)

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        return super()._all(embeddings, labels, sides) / self.sizes["num_classes"]
