"""Losses over pairs under names of pytorch-metric-learning."""

from typing import Any

import torch
from torch import Tensor

from tuplet import losses
from tuplet.engine.gather import all_gather
from tuplet.geometry import normalise
from tuplet.interop.settings import Became, Compared, DotProductSimilarity, LpDistance, SNRDistance, refused
from tuplet.interop.shim import BatchShim, RowShim, Shim, refuse_triplets, said_of
from tuplet.relations import matrix
from tuplet.rule import Rule


def refuse_distances(name: str, how: Compared) -> None:
    """Of a loss that reads similarities.

    Raises:
        ShapeError: If it was given a distance.
    """
    if not how.is_similarity:
        raise refused(name, "it was given a distance", "Leave distance out, or use DotProductSimilarity.")


def of_unit(how: Compared) -> dict[str, Any]:
    """Options of a loss that has a geometry, and can divide by lengths."""
    return {"geometry": how.geometry} | ({"normalise": True} if how.normalise else {})


class ContrastiveLoss(Shim):
    """`ContrastiveLoss`: means over active positives and over active negatives, added."""

    otherwise = LpDistance()
    reducers = ("AvgNonZeroReducer",)

    @staticmethod
    def become(pos_margin: float | None = None, neg_margin: float | None = None, *, how: Compared) -> Became:
        """`contrastive` in the convention "note" and the mean "apart"."""
        pos_margin, neg_margin = 0.0 if pos_margin is None else pos_margin, 1.0 if neg_margin is None else neg_margin
        if how.is_similarity:  # of a distance 1 - s, or -s
            top = 1.0 if how.geometry == "cosine" else 0.0
            pos_margin, neg_margin = top - pos_margin, top - neg_margin
        if min(pos_margin, neg_margin) < 0:
            raise refused(
                "ContrastiveLoss",
                "a margin of a similarity above 1, or of an inner product above 0, has no equal here",
                "Use pos_margin = 1 and neg_margin = 0, say, with CosineSimilarity.",
            )
        options: dict[str, Any] = {"margin": neg_margin, "convention": "note", **of_unit(how)}
        return Became(
            "contrastive", {**options, "mean_over": "apart"} | ({"pos_margin": pos_margin} if pos_margin else {})
        )

    def listed(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        """Pairs, each as often as it was chosen."""
        a, p, b, n = (mined[0], mined[1], mined[0], mined[2]) if len(mined) == 3 else mined
        first, second = torch.cat([embeddings[a], embeddings[b]]), torch.cat([others[p], others[n]])
        same = torch.arange(len(first), device=first.device) < len(a)
        return self.loss(first, references=second, same=same)


class SignalToNoiseRatioContrastiveLoss(RowShim):
    """`SignalToNoiseRatioContrastiveLoss`."""

    counts_pairs = True
    otherwise = SNRDistance()
    reducers = ("AvgNonZeroReducer",)

    @staticmethod
    def become(pos_margin: float = 0.0, neg_margin: float = 1.0, *, how: Compared) -> Became:
        """`snr_contrastive`."""
        if pos_margin:
            raise refused("SignalToNoiseRatioContrastiveLoss", f"pos_margin is {pos_margin}", "Use pos_margin = 0.")
        return Became("snr_contrastive", {"margin": float(neg_margin)} | ({"normalise": True} if how.normalise else {}))


class SupConLoss(RowShim):
    """`SupConLoss`: 0 where all are of one class."""

    reducers = ("AvgNonZeroReducer",)

    @staticmethod
    def become(temperature: float = 0.1, *, how: Compared) -> Became:
        """`supcon`, for anchors that have a negative."""
        refuse_distances("SupConLoss", how)
        return Became("supcon", {"temperature": temperature, "geometry": how.geometry, "one_class": "skip"})

    def listed(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        """Pairs that were chosen; rows need one of both kinds."""
        if not all(map(len, mined)):
            return (embeddings * 0).sum()  # no positive, or no negative, in the whole batch
        sides = {} if others is embeddings else {"references": others}
        options = {**self.became.options, "one_class": "count", "processes": self.processes}
        return losses.supcon(embeddings, relation=matrix(said_of(embeddings, others, mined)), **options, **sides)


class NTXentLoss(Shim):
    """`NTXentLoss`: the mean over all positive pairs."""

    @staticmethod
    def become(temperature: float = 0.07, *, how: Compared) -> Became:
        """`nt_xent`, each row with as much weight as it has positives."""
        refuse_distances("NTXentLoss", how)
        note = "the mean is over rows in a recipe, which is the same where all classes of a batch are as large"
        return Became("nt_xent", {"temperature": temperature, "geometry": how.geometry}, note)

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        mine = embeddings.new_zeros(0, dtype=torch.int64) if labels is None else labels
        ordered = all_gather(sides.get("reference_labels", mine), self.processes).sort().values
        positives = torch.searchsorted(ordered, mine, right=True) - torch.searchsorted(ordered, mine)
        if not sides:
            return self.loss(embeddings, labels, weights=(positives - 1).to(embeddings.dtype))
        return self._of_two(embeddings, sides.pop("references"), positives, labels=labels, **sides)

    def listed(self, embeddings: Tensor, others: Tensor, mined: tuple[Tensor, ...]) -> Tensor:
        """Pairs that were chosen, each once."""
        refuse_triplets("NTXentLoss", mined)
        said = said_of(embeddings, others, mined)
        return self._of_two(embeddings, others, (said > 0).sum(1), relation=matrix(said))

    def ruled(self, embeddings: Tensor, others: Tensor, rule: Rule, positives: Tensor) -> Tensor:
        """Rows weigh as much as they have positives."""
        return self._of_two(embeddings, others, positives, relation=rule)

    def _of_two(self, embeddings: Tensor, others: Tensor, positives: Tensor, **sides: Any) -> Tensor:
        """By the N-pair loss, which has the same rows: nt_xent takes a second set for second views."""
        is_unit, scale = self.loss.geometry == "cosine", 1 / self.became.options["temperature"]
        anchors, references = (normalise(x) if is_unit else x for x in (embeddings, others))
        given = {**sides, "references": references, "weights": positives.to(embeddings.dtype)}
        return losses.npair(anchors * scale, **given, processes=self.processes)


class MultiSimilarityLoss(RowShim):
    """`MultiSimilarityLoss`, without its miner."""

    @staticmethod
    def become(alpha: float = 2.0, beta: float = 50.0, base: float = 0.5) -> Became:
        """`multi_similarity`."""
        return Became("multi_similarity", {"alpha": alpha, "beta": beta, "base": base})


class CircleLoss(RowShim):
    """`CircleLoss`."""

    reducers = ("AvgNonZeroReducer",)

    @staticmethod
    def become(m: float = 0.4, gamma: float = 80.0) -> Became:
        """`circle`."""
        return Became("circle", {"margin": m, "gamma": gamma})


class NCALoss(Shim):
    """`NCALoss`."""

    otherwise = LpDistance(power=2)

    @staticmethod
    def become(softmax_scale: float = 1.0, *, how: Compared) -> Became:
        """`nca`; squared distances of unit vectors are 2 - 2 cosines."""
        if how.normalise and how.geometry == "euclidean":
            raise refused("NCALoss", "it was given distances of unit vectors", "Use LpDistance with power = 2.")
        unit = {"scale": 2 * softmax_scale, "geometry": "cosine"}
        return Became("nca", unit if how.normalise else {"scale": softmax_scale, "geometry": how.geometry})


class IntraPairVarianceLoss(RowShim):
    """`IntraPairVarianceLoss`."""

    counts_pairs = True

    @staticmethod
    def become(pos_eps: float = 0.01, neg_eps: float = 0.01) -> Became:
        """`intra_pair_variance`."""
        return Became("intra_pair_variance", {"positive_slack": pos_eps, "negative_slack": neg_eps})


class ThresholdConsistentMarginLoss(BatchShim):
    """`ThresholdConsistentMarginLoss`, which reads the batch there also where it is given a second set."""

    @staticmethod
    def become(
        lambda_plus: float = 1.0, lambda_minus: float = 1.0, margin_plus: float = 0.9, margin_minus: float = 0.5
    ) -> Became:
        """`threshold_consistent_margin`."""
        weights = {"positive_weight": lambda_plus, "negative_weight": lambda_minus}
        margins = {"positive_margin": margin_plus, "negative_margin": margin_minus}
        return Became("threshold_consistent_margin", {**weights, **margins})


class HistogramLoss(BatchShim):
    """`HistogramLoss`."""

    @staticmethod
    def become(n_bins: int | None = None, delta: float | None = None) -> Became:
        """`histogram`."""
        bins = n_bins or (100 if delta is None else round(2 / delta))
        if delta is not None and abs(delta * bins - 2) > 1e-9:
            raise refused("HistogramLoss", f"delta = {delta} does not divide 2", "Use n_bins, a whole number.")
        return Became("histogram", {"bins": bins})


class FastAPLoss(Shim):
    """`FastAPLoss`."""

    otherwise = LpDistance(power=2)

    @staticmethod
    def become(num_bins: int = 10) -> Became:
        """`fast_ap`."""
        return Became("fast_ap", {"bins": num_bins})


class PNPLoss(BatchShim):
    """`PNPLoss`: an anchor is one of its own positives there."""

    @staticmethod
    def become(b: float = 2, alpha: float = 1, anneal: float = 0.01, variant: str = "O") -> Became:
        """`pnp`, of the batch against itself as a second set, in which each anchor finds itself."""
        options = {"b": float(b), "alpha": float(alpha), "temperature": anneal, "variant": variant}
        return Became(
            "pnp", options, only_called="an anchor is a positive of itself there; loss.name = pnp leaves it out"
        )

    def _all(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Tensor:
        own = {} if sides else {"references": embeddings, "reference_labels": labels}
        return self.loss(embeddings, labels, **own) if own else super()._all(embeddings, labels, sides)


class RankedListLoss(BatchShim):
    """`RankedListLoss`."""

    otherwise = LpDistance()

    @staticmethod
    def become(
        margin: float,
        Tn: float,
        imbalance: float = 0.5,
        alpha: float | None = None,
        Tp: float = 0,
    ) -> Became:
        """`ranked_list`."""
        options = {"margin": float(margin), "alpha": 1 + margin / 2 if alpha is None else float(alpha)}
        options |= {"positive_scale": float(Tp), "negative_scale": float(Tn), "balance": imbalance}
        note = "for each row of the batch 1e-5 is added to the weights that a mean divides by there"
        return Became("ranked_list", options, note)


class NPairsLoss(Shim):
    """`NPairsLoss`: of each class the first two rows."""

    otherwise = DotProductSimilarity()

    @staticmethod
    def become(*, how: Compared) -> Became:
        """`npair` by inner products; `info_nce` by cosines."""
        refuse_distances("NPairsLoss", how)
        if how.geometry == "dot":
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


class VICRegLoss(Shim):
    """`VICRegLoss`: `loss(first, ref_emb=second)`."""

    @staticmethod
    def become(
        invariance_lambda: float = 25, variance_mu: float = 25, covariance_v: float = 1, eps: float = 1e-4
    ) -> Became:
        """`vicreg`."""
        options = {"invariance": invariance_lambda, "variance": variance_mu, "covariance": covariance_v, "eps": eps}
        return Became("vicreg", {name: float(value) for name, value in options.items()})

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        indices_tuple: object = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """The loss of two views.

        Args:
            embeddings: First views, (rows, dim).
            labels: Refused: row i of both is one example.
            indices_tuple: Refused.
            ref_emb: Second views.
            ref_labels: Refused.
        """
        if ref_emb is None or not (labels is None and indices_tuple is None and ref_labels is None):
            raise refused("VICRegLoss", "it compares two views of each example", "Call loss(first, ref_emb=second).")
        return self.loss(embeddings, references=ref_emb)
