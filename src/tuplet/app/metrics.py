"""The metrics of `evaluation.json`: their names, what they count, and the raw input beside the model."""

from dataclasses import dataclass

from tuplet.results import Evaluation, Interval, lower_is_better

_RECALL = {
    "relation": "one of the {k} nearest neighbours is a positive",
    "all": "one of the {k} nearest neighbours is of the same class",
    "pairs": "its positive is one of the {k} nearest",
    "views": "the example is one of the {k} nearest to an augmented view of it",
}
_MEANINGS = {
    "map@r": "how early the whole class comes, R being its size",
    "r_precision": "share of the class among the R nearest, R being its size",
    "precision@": "share of the class among the {k} nearest",
    "knn@": "the {k} nearest training examples vote for the right class",
    "probe": "a linear classifier of the training examples names the right class",
    "mrr": "mean of 1 / rank of the right one",
    "spearman": "rank correlation with human similarity ratings of word pairs",
    "kendall": "the same by counting pairs of pairs in the right order",
    "coverage": "share of the pairs whose words both have a vector",
    "ndcg@": "how early the nearest targets come among the {k} nearest",
    "label_distance@": "mean distance of the targets of the {k} nearest; lower is better",
    "label_gap@": "distance of the targets of the {k} nearest, where 1 is chance; lower is better",
    "rank_gap": "difference of a pair's ranks by similarity and by score, 1/3 by chance; lower is better",
    "auc": "chance that a pair of one class is nearer than a pair of two",
    "eer": "error rate where as many pairs are wrongly accepted as wrongly refused; lower is better",
    "average_precision": "mean precision of the pairs of one class, ranked by score",
    "accuracy": "pairs classified right by a threshold from other classes, both kinds counting alike",
    "accuracy_std": "how much that differs between folds; lower is better",
    "tar@": "accepted pairs of one class, where so many pairs of two are accepted",
    "effective_rank": "directions that the embeddings use; few mean a collapse",
    "participation_ratio": "the same, counted by variance",
    "uniformity": "how evenly directions are used; lower is more even",
    "alignment": "squared distance of what belongs together, on the unit sphere; lower is nearer",
    "norm_mean": "mean length of an embedding",
    "norm_std": "how much lengths differ",
    "norm_min": "of the shortest embedding",
    "norm_max": "of the longest embedding",
    "duplicate_share": "share of embeddings that equal an earlier one",
}
_NAMES = {
    "map@r": "MAP@R",
    "mrr": "MRR",
    "knn@1": "1-NN accuracy",
    "probe": "Linear probe",
    "kendall": "Kendall",
    "spearman": "Spearman",
    "r_precision": "R-Precision",
    "auc": "AUC",
    "eer": "EER",
    "average_precision": "Average precision of pairs",
    "accuracy": "Accuracy of pairs",
    "accuracy_std": "Deviation of accuracy",
    "norm_std": "Deviation of lengths",
    "norm_mean": "Mean length",
    "norm_min": "Shortest length",
    "norm_max": "Longest length",
    "duplicate_share": "Duplicates",
}
_STEMS = {
    "recall": "Recall@{k}",
    "precision": "Precision@{k}",
    "ndcg": "NDCG@{k}",
    "knn": "kNN accuracy, k = {k}",
    "label_distance": "Target distance@{k}",
    "label_gap": "Target gap@{k}",
    "tar": "TAR at FAR {k}",
    "fractional_recall": "Fractional recall@{k}",
}
_MAIN = {
    "relation": ("recall@1", "map@r"),
    "all": ("recall@1", "map@r"),
    "other_groups": ("recall@1",),
    "reid": ("recall@1", "map"),
    "query_gallery": ("recall@1", "map"),
    "targets": ("spearman", "ndcg@10", "label_gap@10"),
    "scored": ("spearman", "kendall"),
    "pairs": ("recall@1", "recall@10", "mrr"),
    "views": ("recall@1",),
    "verification": (),
    "health": (),
}
_SUFFIXES = {
    "other_groups": ", other groups",
    "reid": ", re-identification",
    "query_gallery": ", of the gallery",
    "views": " of changed examples",
}
_LEFT_OUT = {
    "other_groups": "; the query's own group does not count",
    "reid": "; examples of the query's class from its own group, such as its camera, do not count",
}
_PLAIN = ("all", "train", "targets", "scored", "verification", "health")
"""Protocols that need not be named beside a metric."""


def is_metric(key: str) -> bool:
    """Whether any run could measure this."""
    stem, _, count = key.partition("@")
    if stem == "tar":
        share = count.removeprefix("far=")
        return share != count and share.replace(".", "", 1).replace("e-", "", 1).isdigit()
    return key in _MEANINGS or (stem in _STEMS and count.isdigit())


@dataclass(frozen=True)
class Metric:
    """One line of the result: raw input against the model.

    Args:
        key: Name in `evaluation.json`, such as `recall@1`.
        protocol: Such as `all`; for words, the file of pairs.
        raw: With the input itself as embedding.
        model: With the trained one.
        untrained: With the encoder as it was before training.
        stands_alone: Whether the name needs no protocol.
    """

    key: str
    protocol: str
    raw: Interval | None
    model: Interval
    untrained: Interval | None = None
    stands_alone: bool = False

    @property
    def is_main(self) -> bool:
        """Whether it belongs to the headline."""
        return self.key in _MAIN.get(_stem(self.protocol), ("spearman",)) or self.protocol == "train"

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1."""
        return self.protocol != "health" and not self.key.startswith("label_")

    @property
    def is_lower_better(self) -> bool:
        """Whether less is better."""
        return lower_is_better(self.key)

    @property
    def name(self) -> str:
        """As people write it."""
        suffix = _SUFFIXES.get(self.protocol, f", {self.protocol}")
        return name_of(self.key) + ("" if self.stands_alone or self.protocol in _PLAIN else suffix)

    @property
    def meaning(self) -> str:
        """What is counted, in words."""
        stem, mark, k = self.key.partition("@")
        if self.key == "recall@1" and self.protocol in ("all", "other_groups", "reid", "query_gallery"):
            words = "the nearest neighbour is of the same class"
        elif self.key == "spearman" and self.protocol == "targets":
            words = "rank correlation of distances with those of the targets, over pairs"
        elif self.key == "spearman" and self.protocol == "scored":
            words = "rank correlation of the similarities of pairs with their scores"
        elif stem == "recall":
            words = _RECALL.get(_stem(self.protocol), _RECALL["all"])
        else:
            words = _MEANINGS.get(self.key) or _MEANINGS.get(stem + mark, "")
        words = words.format(k=k).replace("one of the 1 nearest", "the nearest").replace("the 1 nearest", "the nearest")
        words = words.replace("training examples vote", "training example votes") if k == "1" else words
        return f"{words}{_LEFT_OUT.get(self.protocol, '')}" if words else words


def _stem(protocol: str) -> str:
    """The protocol whose level this is, `relation` of `relation.species`; a file of words keeps its name."""
    stem = protocol.partition(".")[0]
    return stem if stem == "relation" else protocol


def name_of(key: str) -> str:
    """A metric as people write it."""
    stem, _, k = key.partition("@")
    k = k.removeprefix("far=")
    return _NAMES.get(key) or _STEMS.get(stem, key.replace("_", " ").capitalize()).format(k=k)


def metrics_of(evaluation: Evaluation) -> list[Metric]:
    """The lines of the result: the primary metric, then the others of the headline, then the rest."""
    main = None if evaluation.main is None else (evaluation.main.protocol, evaluation.main.measure)
    alone = main[0] if main and _stem(main[0]) in (*_MAIN, "train") and main[0] != "views" else None
    lines = [
        Metric(
            key,
            protocol,
            found.raw.interval(key) if found.raw else None,
            value,
            found.untrained.interval(key) if found.untrained else None,
            stands_alone=protocol == alone,
        )
        for protocol, found in evaluation.protocols.items()
        for key in found.model.values
        if (value := found.model.interval(key)) is not None
    ]
    return sorted(lines, key=lambda line: ((line.protocol, line.key) != main, not line.is_main))


def primary_of(evaluation: Evaluation) -> Metric | None:
    """The line that stands for the whole result."""
    main = evaluation.main
    lines = metrics_of(evaluation)
    return next((line for line in lines if main and (line.protocol, line.key) == (main.protocol, main.measure)), None)
