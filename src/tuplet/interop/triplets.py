"""Losses over triplets, and of pairs with all negatives, under names of pytorch-metric-learning."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.interop.pairs import of_unit
from tuplet.interop.settings import Became, Compared, LpDistance, refused
from tuplet.interop.shim import BatchShim, RowShim, Shim, triplets_of


class TripletMarginLoss(Shim):
    """`TripletMarginLoss`: all triplets, those of a miner, or, of pairs, those that share their anchor."""

    otherwise = LpDistance()
    reducers = ("AvgNonZeroReducer", "MeanReducer")

    @staticmethod
    def become(
        margin: float = 0.05,
        swap: bool = False,
        smooth_loss: bool = False,
        triplets_per_anchor: int | str = "all",
        *,
        how: Compared,
        mean: str,
    ) -> Became:
        """`triplet`, on the unit sphere."""
        refuse_random_triplets("TripletMarginLoss", triplets_per_anchor)
        options: dict[str, Any] = {"margin": margin, **of_unit(how)}
        options |= {"select": "swap"} if swap else {}
        options |= {"soft": "margin"} if smooth_loss else {}
        return Became("triplet", options | ({"mean_over": "all"} if mean == "MeanReducer" else {}))

    def listed(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        """The loss of triplets that a miner chose."""
        a, p, n = mined if len(mined) == 3 else triplets_of(*mined)
        return self.loss(embeddings[a], positives=others[p], negatives=others[n])


def refuse_random_triplets(name: str, triplets_per_anchor: object) -> None:
    """Of a loss that takes all triplets.

    Raises:
        ShapeError: If some are to be drawn.
    """
    if triplets_per_anchor != "all":
        raise refused(name, "triplets_per_anchor draws triplets at random", 'Use triplets_per_anchor = "all".')


class MarginLoss(Shim):
    """`MarginLoss`: a boundary for all, or one for each class."""

    otherwise = LpDistance()
    reducers = ("DivisorReducer",)

    def __init__(self, *given: Any, processes: Processes = SINGLE_PROCESS, **named: Any) -> None:
        names = inspect.signature(self.become).parameters
        asked = dict(zip(names, given, strict=False)) | named
        self.start, self.sizes = asked.get("beta", 1.2), {"num_classes": asked.get("num_classes")}
        super().__init__(*given, processes=processes, **named)

    @staticmethod
    def become(
        margin: float = 0.2,
        nu: float = 0,
        beta: float = 1.2,
        triplets_per_anchor: int | str = "all",
        learn_beta: bool = False,
        num_classes: int | None = None,
    ) -> Became:
        """`margin`; without `learn_beta` the boundary is a number."""
        refuse_random_triplets("MarginLoss", triplets_per_anchor)
        if not learn_beta:
            return Became("margin", {"margin": margin, "beta": float(beta)})
        if num_classes and nu:
            raise refused(
                "MarginLoss",
                "with nu and num_classes its last term is a sum over triplets there, divided by the terms above 0",
                "Use nu = 0, or one boundary for all.",
            )
        name = "per-class" if num_classes else "learned"
        why = "" if beta == 1.2 else "a boundary that is learned starts at 1.2 in a recipe"  # theirs too
        return Became("margin", {"margin": margin, "beta": name, "nu": float(nu)}, only_called=why)

    def _built(self, options: dict[str, Any]) -> Any:
        loss = super()._built({**options, **(self.sizes if options["beta"] == "per-class" else {})})
        if isinstance(options["beta"], str):
            torch.nn.init.constant_(loss.boundary, self.start)
        return loss


class LiftedStructureLoss(BatchShim):
    """`LiftedStructureLoss`."""

    otherwise = LpDistance()

    @staticmethod
    def become(neg_margin: float = 1.0, pos_margin: float = 0.0, *, how: Compared) -> Became:
        """`lifted_structure`."""
        return Became("lifted_structure", {"margin": float(neg_margin - pos_margin), **of_unit(how)})


class GeneralizedLiftedStructureLoss(RowShim):
    """`GeneralizedLiftedStructureLoss`."""

    otherwise = LpDistance()

    @staticmethod
    def become(neg_margin: float = 1.0, pos_margin: float = 0.0, *, how: Compared) -> Became:
        """`generalized_lifted`."""
        note = "rows without a positive, or without a negative, are left out; there they count, with one of both sums"
        return Became("generalized_lifted", {"margin": neg_margin - pos_margin, **of_unit(how)}, note)


class AngularLoss(Shim):
    """`AngularLoss`; the angle is in degrees."""

    otherwise = LpDistance()

    @staticmethod
    def become(alpha: float = 40) -> Became:
        """`angular`."""
        note = "negatives are divided by their lengths too; there they are taken as they are"
        return Became("angular", {"angle": math.radians(alpha)}, note)


class TupletMarginLoss(Shim):
    """`TupletMarginLoss`; the margin is in degrees."""

    @staticmethod
    def become(margin: float = 5.73, scale: float = 64) -> Became:
        """`tuplet_margin`."""
        return Became("tuplet_margin", {"margin": math.radians(margin), "scale": float(scale)})
