"""Losses over pairs and triplets under names of pytorch-metric-learning."""

from typing import Any

import torch
from torch import Tensor

from tuplet import losses
from tuplet.engine.gather import all_gather
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
from tuplet.interop.shim import RowShim, Shim, refuse_all_but_cosine, said_of, triplets_of
from tuplet.relations import matrix


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
        a, p, n = mined if len(mined) == 3 else triplets_of(*mined)
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


class SupConLoss(RowShim):
    """`SupConLoss`: 0 where all are of one class."""

    @staticmethod
    def become(temperature: float = 0.1, *, distance: object = None, reducer: object = None) -> Became:
        """`supcon`, for anchors that have a negative."""
        reducer_name("SupConLoss", reducer, "AvgNonZeroReducer")
        geometry = similarity("SupConLoss", distance)
        return Became("supcon", {"temperature": temperature, "geometry": geometry, "one_class": "skip"})

    def _mined(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        if not all(map(len, mined)):
            return (embeddings * 0).sum()  # no positive, or no negative, in the whole batch
        sides = {} if others is embeddings else {"references": others}
        options = {**self.became.options, "one_class": "count", "processes": self.processes}
        return losses.supcon(embeddings, relation=matrix(said_of(embeddings, others, mined)), **options, **sides)


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
        return self._of_two(embeddings, sides.pop("references"), positives, labels=labels, **sides)

    def _mined(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        if len(mined) == 3:
            raise refused(
                "NTXentLoss",
                "it was given triplets, where a pair counts as often as triplets have it",
                "Give it pairs: a, p, a, n, each once.",
            )
        said = said_of(embeddings, others, mined)
        return self._of_two(embeddings, others, (said > 0).sum(1), relation=matrix(said))

    def _of_two(self, embeddings: Tensor, others: Tensor, positives: Tensor, **sides: Any) -> Tensor:
        """By the N-pair loss, which has the same rows: nt_xent takes a second set for second views."""
        is_unit, scale = self.loss.geometry == "cosine", 1 / self.became.options["temperature"]
        anchors, references = (normalise(x) if is_unit else x for x in (embeddings, others))
        given = {**sides, "references": references, "weights": positives.to(embeddings.dtype)}
        return losses.npair(anchors * scale, **given, processes=self.processes)


class MultiSimilarityLoss(RowShim):
    """`MultiSimilarityLoss`, without its miner."""

    @staticmethod
    def become(
        alpha: float = 2.0, beta: float = 50.0, base: float = 0.5, *, distance: object = None, reducer: object = None
    ) -> Became:
        """`multi_similarity`."""
        name = "MultiSimilarityLoss"
        reducer_name(name, reducer, "MeanReducer")
        refuse_all_but_cosine(name, distance)
        return Became("multi_similarity", {"alpha": alpha, "beta": beta, "base": base})


class CircleLoss(RowShim):
    """`CircleLoss`."""

    @staticmethod
    def become(m: float = 0.4, gamma: float = 80.0, *, distance: object = None, reducer: object = None) -> Became:
        """`circle`."""
        reducer_name("CircleLoss", reducer, "AvgNonZeroReducer")
        refuse_all_but_cosine("CircleLoss", distance)
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


class GeneralizedLiftedStructureLoss(RowShim):
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
