"""Do clusters of embeddings match the classes? k-means, then NMI and AMI, all from scikit-learn."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Int64, Integer
from torch import Tensor

from tuplet.bounds import Count, Number, bounded
from tuplet.errors import DataError
from tuplet.evaluation.bootstrap import FEW_CLASSES, class_draws, percentile_interval
from tuplet.evaluation.inputs import UNKNOWN, Arrays, as_tensor, class_labels, finite_rows, scientific
from tuplet.evaluation.result import Result
from tuplet.seeding import derive_seed
from tuplet.types import GeometryName


@dataclass(frozen=True, eq=False, kw_only=True)
class ClusteringResult(Result):
    """What `clustering` found: `nmi` and `ami`; prefer `ami`, which is 0 on average for a random partition.

    Attributes:
        clusters: Cluster of each labelled row, in order.
    """

    clusters: Int64[Tensor, " labelled"]


@bounded
def clustering(
    embeddings: Float[Tensor, "rows dim"] | Arrays,
    labels: Integer[Tensor, " rows"] | Arrays,
    *,
    geometry: GeometryName = "cosine",
    restarts: Count = 10,
    bootstrap: Number = 20,
    seed: int = 0,
) -> ClusteringResult:
    """Cluster by k-means into as many clusters as there are classes, and compare with the classes.

    Args:
        embeddings: One row per example; `cosine` normalises them first.
        labels: Their class ids; rows with -1 are left out.
        geometry: How embeddings are meant to be compared.
        restarts: Starts of k-means, of which the best is kept.
        bootstrap: Resamples of the classes, as sets, each clustered anew from its own seed; the percentiles of these
            few values are a rough interval. 0 for none.
        seed: Of k-means and resamples.

    Returns:
        Agreement of both partitions.

    Raises:
        LabelError: If labels are not one integer per row.
        ShapeError: If a row holds NaN or infinity.
        DataError: If no row has a label.
        MissingExtraError: If scikit-learn is not installed.
    """
    finite = finite_rows(embeddings)
    known = class_labels(labels, len(finite))
    rows = (known != UNKNOWN).nonzero()[:, 0]
    if not len(rows):
        raise DataError(
            "No example has a label; clusters cannot be compared with classes.",
            hint="Give labels other than -1.",
            reference="no-labels",
        )
    points = finite[rows]
    if geometry == "cosine":
        points = torch.nn.functional.normalize(points, dim=1)
    classes, codes = torch.unique(known[rows], return_inverse=True)
    clusters = _k_means(points, len(classes), restarts, derive_seed(seed, "k-means"))
    values = clustering_agreement(clusters, codes)
    found: list[list[float]] = []
    for times in class_draws(len(classes), bootstrap, seed):
        for number, sampled in enumerate(times > 0, start=len(found)):
            part = sampled[codes]
            again = _k_means(points[part], int(sampled.sum()), restarts, derive_seed(seed, "k-means", number))
            found.append(list(clustering_agreement(again, codes[part]).values()))
    low, high = percentile_interval(torch.tensor(found, dtype=torch.float64)).tolist() if found else ([], [])
    return ClusteringResult(
        values=values,
        lower=dict(zip(values, low, strict=False)),
        upper=dict(zip(values, high, strict=False)),
        counts={"n_examples": len(rows), "n_unlabelled": len(known) - len(rows), "n_classes": len(classes)},
        settings={"geometry": geometry, "restarts": restarts, "bootstrap": bootstrap, "seed": seed},
        few_classes=len(classes) < FEW_CLASSES,
        clusters=clusters,
    )


def clustering_agreement(
    first: Int[Tensor, " rows"] | Arrays, second: Int[Tensor, " rows"] | Arrays
) -> Mapping[str, float]:
    """Normalised and adjusted mutual information of two partitions, both over the mean of the two entropies.

    Args:
        first: Part of each row; the numbers themselves mean nothing.
        second: Another part of each row.

    Returns:
        `nmi` and `ami`; 1 for equal partitions.

    Raises:
        MissingExtraError: If scikit-learn is not installed.
    """
    metrics = scientific("sklearn.metrics")
    one, other = (as_tensor(part, "partitions").detach().cpu().numpy() for part in (first, second))
    return {
        "nmi": float(metrics.normalized_mutual_info_score(one, other)),
        "ami": float(metrics.adjusted_mutual_info_score(one, other)),
    }


def _k_means(points: Tensor, clusters: int, restarts: int, seed: int) -> Int64[Tensor, " rows"]:
    model = scientific("sklearn.cluster").KMeans(clusters, n_init=restarts, random_state=seed % 2**32)
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: a collapsed embedding, which the measures show.
        warnings.simplefilter("ignore", scientific("sklearn.exceptions").ConvergenceWarning)
        return torch.from_numpy(model.fit_predict(points.numpy())).long()
