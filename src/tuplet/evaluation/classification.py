"""Classification: by the votes of the neighbours, majority or weighted, and by a linear probe from scikit-learn."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from tuplet.bounds import Count, Number, Positive, Tau, bounded
from tuplet.engine.topk import SEARCH_TILE, TopK, nearness
from tuplet.errors import DataError, ShapeError
from tuplet.evaluation.bootstrap import DRAWS, averaged
from tuplet.evaluation.inputs import UNKNOWN, Arrays, class_labels, embedding_rows, finite_rows, scientific
from tuplet.evaluation.pairs import distinct_integers
from tuplet.evaluation.ranking import Ranker
from tuplet.evaluation.result import QueryResult, Resample
from tuplet.seeding import derive
from tuplet.types import GeometryName


@dataclass(frozen=True, eq=False, kw_only=True)
class KnnResult(QueryResult):
    """What `knn` found: `accuracy`, and each query's class.

    Attributes:
        predictions: Voted class of every query, those with label -1 included.
    """

    predictions: Int64[Tensor, " queries"]


@bounded
def knn(
    embeddings: Float[Tensor, "queries dim"] | Arrays,
    labels: Integer[Tensor, " queries"] | Arrays,
    gallery: Float[Tensor, "gallery dim"] | Arrays | None = None,
    gallery_labels: Integer[Tensor, " gallery"] | Arrays | None = None,
    *,
    neighbours: Count = 200,
    temperature: Tau | None = 0.07,
    geometry: GeometryName = "cosine",
    resample: Resample = "classes",
    bootstrap: Number = DRAWS,
    seed: int = 0,
    tile_size: Count = SEARCH_TILE,
) -> KnnResult:
    r"""Classify each query by its nearest labelled neighbours: the class with the largest sum of $e^{s/\tau}$.

    Args:
        embeddings: Embeddings to classify.
        labels: Their class ids; those with -1 are classified but not scored.
        gallery: Embeddings that vote; by default the queries, none for itself.
        gallery_labels: Their class ids; rows with -1 do not vote.
        neighbours: How many vote, at least 1; at most the size of the gallery do. Of equal scores the lower position.
        temperature: tau > 0, in the unit of the score (a distance votes with its negative); None: each vote counts 1.
        geometry: How two embeddings are compared.
        resample: What the intervals draw again: `classes`, as if other classes had been met, or `examples` where the
            classes are fixed.
        bootstrap: Resamples behind the 95 % interval; 0 for none.
        seed: Of the resamples.
        tile_size: Numbers in one tile.

    Returns:
        Share of queries whose class is right; equal votes go to the lowest class id.

    Raises:
        LabelError: If labels are not one integer per row.
        ShapeError: If arguments do not fit together.
        DataError: If nobody can vote, or no query has a label.
    """
    asked = embedding_rows(embeddings)
    mine = class_labels(labels, len(asked))
    voters = _voters(asked, mine, gallery, gallery_labels)
    vote = _Vote((neighbours,), temperature, geometry, tile_size)
    (predictions,) = vote.predict(asked, voters)
    settings: dict[str, Any] = {"neighbours": neighbours, **vote.settings}
    scored = _scored({"accuracy": predictions}, mine, settings, resample, bootstrap, seed)
    return KnnResult(**vars(scored), predictions=predictions)


@bounded
def knn_curve(
    embeddings: Float[Tensor, "queries dim"] | Arrays,
    labels: Integer[Tensor, " queries"] | Arrays,
    gallery: Float[Tensor, "gallery dim"] | Arrays | None = None,
    gallery_labels: Integer[Tensor, " gallery"] | Arrays | None = None,
    *,
    neighbours: Sequence[Count] = (1, 5, 20, 200),
    temperature: Tau | None = 0.07,
    geometry: GeometryName = "cosine",
    resample: Resample = "classes",
    bootstrap: Number = DRAWS,
    seed: int = 0,
    tile_size: Count = SEARCH_TILE,
) -> QueryResult:
    """The same for several numbers of neighbours, found by one search.

    Args:
        embeddings: As for `knn`.
        labels: As for `knn`.
        gallery: As for `knn`.
        gallery_labels: As for `knn`.
        neighbours: How many vote, each at least 1; numbers above the size of the gallery all mean its size.
        temperature: As for `knn`.
        geometry: As for `knn`.
        resample: As for `knn`.
        bootstrap: As for `knn`.
        seed: As for `knn`.
        tile_size: As for `knn`.

    Returns:
        `knn@K` for each K: share of queries whose class is right.

    Raises:
        LabelError: If labels are not one integer per row.
        ShapeError: If arguments do not fit together.
        DataError: If nobody can vote, or no query has a label.
    """
    asked = embedding_rows(embeddings)
    mine = class_labels(labels, len(asked))
    voters = _voters(asked, mine, gallery, gallery_labels)
    vote = _Vote(tuple(neighbours), temperature, geometry, tile_size)
    predictions = vote.predict(asked, voters)
    named = {f"knn@{count}": voted for count, voted in zip(neighbours, predictions, strict=True)}
    return _scored(named, mine, {"neighbours": vote.neighbours, **vote.settings}, resample, bootstrap, seed)


@bounded
def linear_probe(
    embeddings: Float[Tensor, "queries dim"] | Arrays,
    labels: Integer[Tensor, " queries"] | Arrays,
    train: Float[Tensor, "train dim"] | Arrays,
    train_labels: Integer[Tensor, " train"] | Arrays,
    *,
    strength: Positive = 1.0,
    steps: Count = 1000,
    max_rows: Count = 20_000,
    resample: Resample = "classes",
    bootstrap: Number = DRAWS,
    seed: int = 0,
) -> QueryResult:
    """Accuracy of a logistic regression on embeddings, each column scaled to mean 0 and deviation 1 in training.

    Args:
        embeddings: Embeddings to classify.
        labels: Their class ids; those with -1 are not scored.
        train: Embeddings to learn from.
        train_labels: Their class ids; rows with -1 are left out.
        strength: Inverse weight of the squared norm that is added to the loss (scikit-learn's C).
        steps: Most steps of the solver; whether they were enough is in the settings, as `converged`.
        max_rows: If there are more training rows, so many are drawn.
        resample: What the intervals draw again: `classes`, as if other classes had been met, or `examples` where the
            classes are fixed.
        bootstrap: Resamples behind the 95 % interval; 0 for none.
        seed: Of drawn rows and resamples.

    Returns:
        `probe`: share of queries whose class is right.

    Raises:
        LabelError: If labels are not one integer per row.
        ShapeError: If a row holds NaN or infinity.
        DataError: If there are fewer than two classes to learn, or no query has a label.
        MissingExtraError: If scikit-learn is not installed.
    """
    queries, learned = finite_rows(embeddings), finite_rows(train, "train embeddings")
    mine, theirs = class_labels(labels, len(queries)), class_labels(train_labels, len(learned), "train_labels")
    able, scored = ((known != UNKNOWN).nonzero()[:, 0] for known in (theirs, mine))
    able = able[distinct_integers(len(able), max_rows, derive(seed, "probe"))]
    if len(torch.unique(theirs[able])) < 2 or not len(scored):
        raise DataError(
            f"A linear probe learns from {len(torch.unique(theirs[able]))} classes and is scored on {len(scored)} "
            "examples; two classes and one example are needed.",
            hint="Give labels other than -1 to training rows and queries.",
            reference="no-labels",
        )
    predictions, is_settled = _predicted(learned[able], theirs[able], queries[scored], strength, steps)
    right = {"probe": (predictions == mine[scored]).double()}
    settings = {"strength": strength, "converged": is_settled}
    counts = {"n_probe_rows": len(able)}
    return averaged(
        right, scored, mine[scored], counts=counts, settings=settings, resample=resample, bootstrap=bootstrap, seed=seed
    )


def _voters(
    embeddings: Tensor, mine: Tensor, gallery: Tensor | Arrays | None, gallery_labels: Tensor | Arrays | None
) -> "_Voters":
    if (gallery is None) != (gallery_labels is None):
        raise _wrong("gallery and gallery_labels were not given together")
    if gallery is None or gallery_labels is None:
        return _Voters.of(embeddings, mine, torch.arange(len(mine)))
    voting = embedding_rows(gallery, "gallery")
    return _Voters.of(voting, class_labels(gallery_labels, len(voting), "gallery_labels"), None)


@dataclass(frozen=True, eq=False)
class _Voters:
    gallery: Tensor
    classes: Int64[Tensor, " classes"]
    codes: Int64[Tensor, " voters"]
    own: Int64[Tensor, " queries"] | None  # place of each query among the voters, -1 for none

    @classmethod
    def of(cls, gallery: Tensor, labels: Tensor, own: Tensor | None) -> "_Voters":
        able = (labels != UNKNOWN).nonzero()[:, 0]
        if not len(able):
            raise _nobody("No row of the gallery has a label, so kNN has no votes.")
        classes, codes = torch.unique(labels[able], return_inverse=True)
        if own is not None:
            own = torch.full_like(labels, -1)
            own[able] = torch.arange(len(able))
        return cls(gallery if len(able) == len(labels) else gallery[able.to(gallery.device)], classes, codes, own)


@dataclass(frozen=True, eq=False)
class _Vote:
    neighbours: tuple[int, ...]
    temperature: Tau | None
    geometry: GeometryName
    tile_size: int

    def __post_init__(self) -> None:
        if not self.neighbours or min(self.neighbours) < 1 or (self.temperature is not None and self.temperature <= 0):
            raise _wrong(f"neighbours is {self.neighbours} and temperature {self.temperature}; both are above 0")

    @property
    def settings(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "geometry": self.geometry}

    def predict(self, queries: Tensor, voters: _Voters) -> tuple[Int64[Tensor, " queries"], ...]:
        """The class of each query, for each number of neighbours."""
        own = None if voters.own is None else voters.own.to(queries.device)
        ranker = Ranker(queries, voters.gallery, self.geometry, exclude=own, tile_size=self.tile_size)
        blocks = ranker.nearest(max(self.neighbours), beside=len(voters.classes))
        parts = [self._count(found, voters) for _, found in blocks]
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _count(self, found: TopK, voters: _Voters) -> list[Int64[Tensor, " rows"]]:
        # On the CPU: an accelerator adds the votes of a class in no fixed order.
        keys, positions = nearness(found.scores.cpu(), self.geometry), found.positions.cpu()
        weights = torch.ones_like(keys) if self.temperature is None else ((keys - keys[:, :1]) / self.temperature).exp()
        weights = weights.where(positions >= 0, 0.0)
        codes = voters.codes[positions.clamp_min(0)]
        predictions = []
        for count in self.neighbours:
            votes = torch.zeros(len(keys), len(voters.classes), dtype=torch.float64)
            votes.scatter_add_(1, codes[:, :count], weights[:, :count])
            # argmax takes the first of equal votes: the lowest class id.
            predictions.append(voters.classes[votes.argmax(1)].where(positions[:, 0] >= 0, UNKNOWN))
        return predictions


def _scored(
    predictions: Mapping[str, Tensor],
    labels: Tensor,
    settings: dict[str, Any],
    resample: Resample,
    bootstrap: Number,
    seed: int,
) -> QueryResult:
    scored = (labels != UNKNOWN).nonzero()[:, 0]
    if not len(scored):
        raise _nobody("No query has a label; nothing can be scored.")
    right = {name: (voted == labels)[scored].double() for name, voted in predictions.items()}
    counts = {"n_unlabelled": len(labels) - len(scored)}
    return averaged(
        right,
        scored,
        labels[scored],
        counts=counts,
        settings=settings,
        resample=resample,
        bootstrap=bootstrap,
        seed=seed,
    )


def _wrong(what: str) -> ShapeError:
    return ShapeError(
        f"kNN: {what}.",
        hint="Give gallery and gallery_labels together; temperature=None lets each vote count 1.",
        reference="knn-arguments",
    )


def _nobody(what: str) -> DataError:
    return DataError(what, hint="Give labels other than -1 to queries and gallery.", reference="no-labels")


def _predicted(
    rows: Float[Tensor, "train dim"],
    classes: Int64[Tensor, " train"],
    asked: Float[Tensor, "queries dim"],
    strength: float,
    steps: int,
) -> tuple[Int64[Tensor, " queries"], bool]:
    """Classes of rows by a regression fitted to others, and whether its solver came to an end."""
    mean, deviation = rows.mean(0), rows.std(0, correction=0)
    deviation = deviation.where(deviation > 0, 1.0)
    model = scientific("sklearn.linear_model").LogisticRegression(C=strength, max_iter=steps)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", scientific("sklearn.exceptions").ConvergenceWarning)
        model.fit(((rows - mean) / deviation).numpy(), classes.numpy())
    predictions = torch.from_numpy(model.predict(((asked - mean) / deviation).numpy()))
    return predictions, int(max(model.n_iter_)) < steps
