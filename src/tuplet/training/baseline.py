"""The raw-input baseline: the best raw features, selected on validation rows.

Without it a model would be measured against whatever happens to be the default: Euclidean distance or cosine, scaled
columns or not. Where targets are known, boosted trees that predict them from the inputs take part too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from tuplet.data import Dataset, RawChoice, raw_choices, raw_features
from tuplet.data.dataset import take
from tuplet.errors import DataError, LabelError
from tuplet.evaluation.inputs import scientific
from tuplet.evaluation.pairs import distinct_integers
from tuplet.results import RawInput
from tuplet.seeding import derive, derive_seed
from tuplet.training.evaluator import evaluate_raw, protocols_of
from tuplet.training.features import RawExtractor
from tuplet.training.job import Job
from tuplet.training.protocols import EvaluationProtocol, GradedRetrieval, KnnClassification

if TYPE_CHECKING:
    from tuplet.data.raw import Scaling

MOST_ROWS = 2_000
"""Examples by which the plain ways are compared; of more, so many are drawn, by whole classes."""
TREES = "boosted trees"
"""Name of the regressor among the choices."""
_MOST_TRAINED, _MOST_COLUMNS, _MOST_TARGETS = 10_000, 1_024, 8


@dataclass(frozen=True, eq=False)
class BoostedTrees:
    """Gradient-boosted trees of scikit-learn, one for each target.

    Args:
        models: Fitted.
        reference: Of whose inputs the features are made, as for the training.
    """

    models: Sequence[Any]
    reference: Dataset

    @classmethod
    def fit(cls, train: Dataset, seed: int) -> "BoostedTrees | None":
        """Learn the targets of training examples; None where there are none, or too many columns."""
        if train.targets is None or not len(train) or train.targets.shape[1] > _MOST_TARGETS:
            return None
        if train.related is not None and train.related.distance is not None:  # targets are names, not numbers
            return None
        part = rows_of(train, distinct_integers(len(train), _MOST_TRAINED, derive(seed, "trees")))
        rows = raw_features(part, scaling="none")
        if rows.shape[1] > _MOST_COLUMNS or part.targets is None:
            return None
        regressor = scientific("sklearn.ensemble").HistGradientBoostingRegressor
        state = derive_seed(seed, "trees") % 2**32
        models = [regressor(random_state=state).fit(rows.numpy(), column.numpy()) for column in part.targets.T]
        return cls(models, part)

    def predict(self, dataset: Dataset) -> Tensor:
        """Predicted targets (n, t)."""
        rows = raw_features(dataset, self.reference, "none").numpy()
        return torch.stack([torch.from_numpy(model.predict(rows)) for model in self.models], 1)


@dataclass(frozen=True, eq=False)
class Baseline:
    """The selected raw-input features, and the scores of the other choices.

    Attributes:
        extractor: What a model is compared with.
        chosen_on: The split that chose.
        by: Measure that chose; None where there was nothing to choose by.
        scores: Its value by the name of each choice.
    """

    extractor: RawExtractor
    chosen_on: str
    by: str | None
    scores: Mapping[str, float]

    def summary(self) -> RawInput:
        """The `raw` of `evaluation.json`."""
        choice = self.extractor.choice
        return RawInput(
            scaling=None if choice is None else choice.scaling,
            geometry=None if choice is None else choice.geometry,
            regressor=None if self.extractor.regressor is None else TREES,
            chosen_on=self.chosen_on,
            by=self.by,
            scores=dict(self.scores),
        )

    @staticmethod
    def extractor_from(known: RawInput | None) -> RawExtractor:
        """The plain choice that a run made; the usual one if it made none."""
        if known is None or known.scaling is None or known.geometry is None:
            return RawExtractor()
        return RawExtractor(RawChoice(cast("Scaling", known.scaling), known.geometry))


def baseline_of(job: Job) -> Baseline:
    """Select by the primary metric of the validation examples, or of the training examples where there are none.

    Args:
        job: Its training examples teach the regressor, if others choose.
    """
    split, dataset = ("train", job.train) if job.validation is None else ("validation", job.validation)
    protocols = protocols_of(job, dataset)
    protocol = next((one for one in protocols if not isinstance(one, KnnClassification)), None)
    choices = raw_choices(dataset)
    if protocol is None:
        return Baseline(RawExtractor(choices[0]), split, None, {})
    small = _on(protocol, _subset(dataset, job.seed))
    extractors = {choice.name: RawExtractor(choice) for choice in choices}
    scores = {name: _score(job, small, one) for name, one in extractors.items()}
    best = max(extractors, key=lambda name: scores[name])
    extractor = extractors[best]
    if isinstance(protocol, GradedRetrieval) and dataset is not job.train:
        trees = BoostedTrees.fit(job.train, job.seed)
        if trees is not None:
            regressed = RawExtractor(extractor.choice, trees)
            scores[TREES] = _score(job, small, regressed)
            extractor = regressed if scores[TREES] > scores[best] else extractor
    known = {name: value for name, value in scores.items() if value > -torch.inf}
    return Baseline(extractor, split, protocol.primary_metric, known)


def _on(protocol: EvaluationProtocol, dataset: Dataset) -> EvaluationProtocol:
    """The same protocol on other examples."""
    changes: dict[str, Any] = {"dataset": dataset}
    if getattr(protocol, "groups", None) is not None:
        changes["groups"] = dataset.groups
    return replace(protocol, **changes)  # type: ignore[type-var]


def rows_of(dataset: Dataset, positions: Tensor) -> Dataset:
    """Some examples of a data set, without the texts that are only shown."""
    rows = positions.tolist()
    return replace(
        dataset,
        inputs=take(dataset.inputs, positions),
        ids=tuple(dataset.ids[row] for row in rows),
        labels=replace(dataset.labels, values=dataset.labels.values[positions]),
        groups=None if dataset.groups is None else tuple(dataset.groups[row] for row in rows),
        roles=None if dataset.roles is None else tuple(dataset.roles[row] for row in rows),
        partners=None if dataset.partners is None else take(dataset.partners, positions),
        classes=None if dataset.classes is None else dataset.classes[positions],
        targets=None if dataset.targets is None else dataset.targets[positions],
        related=None if dataset.related is None else dataset.related.take(positions),
        texts=None,
        partner_texts=None,
    )


def _subset(dataset: Dataset, seed: int) -> Dataset:
    """At most `MOST_ROWS` examples: whole classes where there are classes, so that each finds its own."""
    if len(dataset) <= MOST_ROWS:
        return dataset
    generator = derive(seed, "baseline")
    if dataset.classes is None or bool((dataset.classes < 0).any()):
        return rows_of(dataset, torch.randperm(len(dataset), generator=generator)[:MOST_ROWS].sort().values)
    codes = torch.unique(dataset.classes, return_inverse=True)[1]
    turn = torch.randperm(int(codes.max()) + 1, generator=generator)[codes]
    chosen = (turn * len(turn) + torch.randperm(len(turn), generator=generator)).argsort()[:MOST_ROWS]
    return rows_of(dataset, chosen.sort().values)


def _score(job: Job, protocol: EvaluationProtocol, extractor: RawExtractor) -> float:
    """The primary metric of raw-input features; minus infinity where there are none."""
    try:
        result = evaluate_raw(job, protocol, extractor)
    except (DataError, LabelError):  # nothing to find among these examples: the first choice stays
        return -torch.inf
    value = math.nan if result is None else result.values[protocol.primary_metric]
    return -torch.inf if math.isnan(value) else value
