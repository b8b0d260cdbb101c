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
    P2SGradLoss,
    ProxyAnchorLoss,
    ProxyNCALoss,
    SoftTripleLoss,
    SphereFaceLoss,
    SubCenterArcFaceLoss,
)
from tuplet.interop.memory import CrossBatchMemory
from tuplet.interop.pairs import (
    CircleLoss,
    ContrastiveLoss,
    FastAPLoss,
    HistogramLoss,
    IntraPairVarianceLoss,
    MultiSimilarityLoss,
    NCALoss,
    NPairsLoss,
    NTXentLoss,
    PNPLoss,
    RankedListLoss,
    SignalToNoiseRatioContrastiveLoss,
    SupConLoss,
    ThresholdConsistentMarginLoss,
    VICRegLoss,
)
from tuplet.interop.settings import (
    AvgNonZeroReducer,
    Became,
    CosineSimilarity,
    DotProductSimilarity,
    LpDistance,
    MeanReducer,
    SNRDistance,
    refused,
)
from tuplet.interop.shim import Shim, translated
from tuplet.interop.triplets import (
    AngularLoss,
    GeneralizedLiftedStructureLoss,
    LiftedStructureLoss,
    MarginLoss,
    TripletMarginLoss,
    TupletMarginLoss,
)
from tuplet.registry import did_you_mean

LOSSES: dict[str, type[Shim]] = {
    kind.__name__: kind
    for kind in (
        AngularLoss,
        ArcFaceLoss,
        CircleLoss,
        ContrastiveLoss,
        CosFaceLoss,
        FastAPLoss,
        GeneralizedLiftedStructureLoss,
        HistogramLoss,
        IntraPairVarianceLoss,
        LiftedStructureLoss,
        MarginLoss,
        MultiSimilarityLoss,
        NCALoss,
        NPairsLoss,
        NTXentLoss,
        NormalizedSoftmaxLoss,
        P2SGradLoss,
        PNPLoss,
        ProxyAnchorLoss,
        ProxyNCALoss,
        RankedListLoss,
        SignalToNoiseRatioContrastiveLoss,
        SoftTripleLoss,
        SphereFaceLoss,
        SubCenterArcFaceLoss,
        SupConLoss,
        ThresholdConsistentMarginLoss,
        TripletMarginLoss,
        TupletMarginLoss,
        VICRegLoss,
    )
}
"""What there is, by name."""

REFUSED: dict[str, tuple[str, str]] = {
    "CrossBatchMemory": (
        "a memory is an option of a loss here",
        "Name the loss, and give it rows of earlier batches: --set loss.queue=1024.",
    ),
    "DynamicSoftMarginLoss": (
        "the weight of a difference, which is its rank, has a gradient there and has none in the paper",
        "Use dynamic_soft_margin.",
    ),
    "GenericPairLoss": (
        "it is a base of losses of your own",
        "Write the loss as a row program: docs/guides/row-programs.md.",
    ),
    "InstanceLoss": (
        "it compares rows of the batch with numbers of classes",
        "Use cosface with margin = 0: a softmax over one vector for each class.",
    ),
    "LargeMarginSoftmaxLoss": (
        "lengths of class weights count in it",
        "Use a_softmax, its successor, whose class weights are of length one.",
    ),
    "ManifoldLoss": (
        "it draws anchors at random, and compares paths over the batch",
        "Use proxy_anchor or soft_triple for classes of several clusters.",
    ),
    "MultipleLosses": (
        "a recipe has one loss",
        "Add losses in a loop of your own: docs/guides/your-loop.md.",
    ),
    "SmoothAPLoss": (
        "an anchor is a positive of itself there, and ranks of positives are cut by the number of rows of a class",
        "Use smooth_ap.",
    ),
}
"""Names that are there and have no equal here: why, and what to use."""

__all__ = [  # noqa: PLE0604  # the losses, by name
    *LOSSES,
    "LOSSES",
    "REFUSED",
    "AvgNonZeroReducer",
    "CosineSimilarity",
    "CrossBatchMemory",
    "DotProductSimilarity",
    "LpDistance",
    "MeanReducer",
    "SNRDistance",
    "SelfSupervisedLoss",
    "become",
]


def become(name: str, **settings: Any) -> Became:
    """What a loss of pytorch-metric-learning is here.

    Args:
        name: Of its class there.
        settings: Of its constructor, but for sizes.

    Raises:
        ShapeError: If it has no equal here.
    """
    if name in REFUSED:
        raise refused(name, *REFUSED[name])
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
