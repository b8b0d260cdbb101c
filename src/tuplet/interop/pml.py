"""Losses under the names, with the defaults and with the calls of pytorch-metric-learning 2.9, which is not imported.

`loss(embeddings, labels, indices_tuple, ref_emb, ref_labels)` has the value and the gradient that it has there, where
the meaning is the same, and is refused in words where it is not. `become` says what a name stands for.
"""

from typing import Any

import torch
from torch import Tensor, nn

from tuplet.interop.heads import (
    ArcFaceLoss,
    CosFaceLoss,
    NormalizedSoftmaxLoss,
    ProxyAnchorLoss,
    ProxyNCALoss,
    SphereFaceLoss,
    SubCenterArcFaceLoss,
)
from tuplet.interop.pairs import (
    CircleLoss,
    ContrastiveLoss,
    FastAPLoss,
    GeneralizedLiftedStructureLoss,
    MultiSimilarityLoss,
    NCALoss,
    NPairsLoss,
    NTXentLoss,
    SupConLoss,
    TripletMarginLoss,
)
from tuplet.interop.settings import (
    AvgNonZeroReducer,
    Became,
    CosineSimilarity,
    DotProductSimilarity,
    LpDistance,
    MeanReducer,
    refused,
)
from tuplet.interop.shim import Shim, translated
from tuplet.registry import did_you_mean

__all__ = [
    "LOSSES",
    "ArcFaceLoss",
    "AvgNonZeroReducer",
    "CircleLoss",
    "ContrastiveLoss",
    "CosFaceLoss",
    "CosineSimilarity",
    "DotProductSimilarity",
    "FastAPLoss",
    "GeneralizedLiftedStructureLoss",
    "LpDistance",
    "MeanReducer",
    "MultiSimilarityLoss",
    "NCALoss",
    "NPairsLoss",
    "NTXentLoss",
    "NormalizedSoftmaxLoss",
    "ProxyAnchorLoss",
    "ProxyNCALoss",
    "SelfSupervisedLoss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
    "SupConLoss",
    "TripletMarginLoss",
    "become",
]

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
    return translated(LOSSES[name], (), settings)


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
