"""Can a linear classifier read the class from an embedding? Logistic regression, from scikit-learn."""

import warnings

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from tuplet.bounds import Count, Number, Positive, bounded
from tuplet.errors import DataError
from tuplet.evaluation.bootstrap import DRAWS, averaged
from tuplet.evaluation.extras import scientific
from tuplet.evaluation.inputs import UNKNOWN, Arrays, class_labels, finite_rows
from tuplet.evaluation.pairs import distinct_integers
from tuplet.evaluation.result import QueryResult, Resample
from tuplet.seeding import derive


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
    judged, learned = finite_rows(embeddings), finite_rows(train, "train embeddings")
    mine, theirs = class_labels(labels, len(judged)), class_labels(train_labels, len(learned), "train_labels")
    able, scored = ((known != UNKNOWN).nonzero()[:, 0] for known in (theirs, mine))
    able = able[distinct_integers(len(able), max_rows, derive(seed, "probe"))]
    if len(torch.unique(theirs[able])) < 2 or not len(scored):
        raise DataError(
            f"A linear probe learns from {len(torch.unique(theirs[able]))} classes and is scored on {len(scored)} "
            "examples; two classes and one example are needed.",
            hint="Give labels other than -1 to training rows and queries.",
            reference="no-labels",
        )
    predictions, is_settled = _predicted(learned[able], theirs[able], judged[scored], strength, steps)
    right = {"probe": (predictions == mine[scored]).double()}
    settings = {"strength": strength, "converged": is_settled}
    counts = {"n_probe_rows": len(able)}
    return averaged(
        right, scored, mine[scored], counts=counts, settings=settings, resample=resample, bootstrap=bootstrap, seed=seed
    )


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
