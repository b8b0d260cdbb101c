"""Which protocols evaluate a training, and their results for the model, the raw input and the untrained encoder."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tuplet.data import Dataset
from tuplet.engine import Processes
from tuplet.errors import DataError, LabelError, RecipeError, ShapeError
from tuplet.evaluation import QueryResult, Result, compare, health, verification
from tuplet.evaluation.relevance import Junk
from tuplet.evaluation.words import WordSimilarityResult, word_similarity
from tuplet.models import Embedder
from tuplet.results import ProtocolResults
from tuplet.training.features import FeatureExtractor, Features, ModelExtractor, RawExtractor
from tuplet.training.job import Job, ProtocolKind
from tuplet.training.protocols import (
    ClassRetrieval,
    EvaluationProtocol,
    GradedRetrieval,
    KnnClassification,
    PairRetrieval,
    QueryGalleryRetrieval,
    RelationRetrieval,
    ScoredPairs,
    ViewRetrieval,
    classes_of,
)
from tuplet.training.settings import EvaluateSettings
from tuplet.types import GeometryName

_PROTOCOLS: dict[Junk, str] = {"group": "other_groups", "class_and_group": "reid"}
"""The protocol that leaves neighbours out, by which they are."""
PAIRS, PAIR_DRAWS = 100_000, 200
"""Pairs of a verification, and resamples behind its intervals."""
Values = dict[str, dict[str, float]]
Results = dict[str, dict[str, QueryResult]]
"""Results by protocol, then by `model`, `raw` and perhaps `untrained`."""


@dataclass(frozen=True, eq=False)
class Selection:
    """How validation selects the best step.

    Attributes:
        protocol: Evaluates the validation examples.
        metric: Selects; None where the latest step is the best.
    """

    protocol: EvaluationProtocol
    metric: str | None

    @property
    def reported(self) -> str:
        """The metric that stands for a validation."""
        return self.metric or self.protocol.primary_metric


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Evaluates features by several protocols.

    Attributes:
        protocols: The most telling first.
        settings: Of the recipe.
        seed: Of the resamples.
    """

    protocols: Sequence[EvaluationProtocol]
    settings: EvaluateSettings
    seed: int

    def extract(self, extractors: Mapping[str, FeatureExtractor]) -> list[dict[str, Features | None]]:
        """Features for each protocol, by the name of the extractor; None where it has none."""
        return [{of: protocol.extract(one) for of, one in extractors.items()} for protocol in self.protocols]

    def evaluate(self, features: Sequence[Mapping[str, Features | None]]) -> tuple[Results, list[str]]:
        """Results with intervals, and a sentence for each protocol that these examples give nothing to measure."""
        results: Results = {}
        left_out: list[str] = []
        for protocol, extracted in zip(self.protocols, features, strict=True):
            try:
                results[protocol.name] = {
                    of: protocol.evaluate(one, self.settings, bootstrap=self.settings.bootstrap, seed=self.seed)
                    for of, one in extracted.items()
                    if one is not None
                }
            except (DataError, LabelError) as problem:
                left_out.append(f"The protocol {protocol.name} is left out: {problem.message}")
        return results, left_out

    def compare(self, results: Results) -> dict[str, ProtocolResults]:
        """Results by protocol, with the paired differences of the model and the others."""
        found: dict[str, ProtocolResults] = {}
        for name, by in results.items():
            paired = {
                key: compare(by["model"], by[other], bootstrap=self.settings.bootstrap, seed=self.seed)
                for other, key in (("raw", "comparison"), ("untrained", "comparison_untrained"))
                if other in by
            }
            found[name] = protocol_results({**by, **paired})
        return found


def protocols_of(job: Job, dataset: Dataset) -> list[EvaluationProtocol]:
    """Protocols for some examples of a training, in the order of its task."""
    found: list[EvaluationProtocol] = []
    for kind in job.task.protocols:
        if kind == "train" and _shares_classes(job, dataset):
            found.append(KnnClassification(dataset, job.train))
        elif kind == "views" and not found and job.augment is not None:
            found.append(ViewRetrieval(dataset, job.augment, job.embedder.preprocessing, job.seed))
        else:
            found += _protocols(kind, dataset, job.evaluate)
    if job.task.split_by == "row":  # the classes are fixed: the examples are a sample
        of_examples = (ClassRetrieval, RelationRetrieval)
        found = [replace(one, resample="examples") if isinstance(one, of_examples) else one for one in found]
    return found


def protocols_for(dataset: Dataset, settings: EvaluateSettings) -> list[EvaluationProtocol]:
    """Protocols for examples that no training is known of, by their own labels, targets and pairs."""
    kinds: tuple[ProtocolKind, ...] = ("relation", "classes", "targets", "pairs")
    return [protocol for kind in kinds for protocol in _protocols(kind, dataset, settings)]


def _protocols(kind: ProtocolKind, dataset: Dataset, settings: EvaluateSettings) -> list[EvaluationProtocol]:
    """The protocols of a kind that these examples give something to measure."""
    if kind in ("relation", "targets"):
        by_target = [GradedRetrieval(dataset)] if _targets_differ(dataset) else []
        return RelationRetrieval.of_levels(dataset) if kind == "relation" else [*by_target]
    if kind in ("pairs", "scored") and dataset.partners is not None:
        by_score = [ScoredPairs(dataset)] if _targets_differ(dataset) else []
        return [PairRetrieval(dataset)] if kind == "pairs" else [*by_score]
    if kind != "classes" or not has_class_pairs(dataset):
        return []
    groups = dataset.groups if settings.groups and dataset.groups and _crosses_groups(dataset) else None
    junk = _junk(dataset, settings)
    if has_gallery(dataset):
        name = "query_gallery" if groups is None else _PROTOCOLS[junk]
        return [QueryGalleryRetrieval(dataset, groups, name, junk), ClassRetrieval(dataset)]
    if groups is None:
        return [ClassRetrieval(dataset)]
    across = ClassRetrieval(dataset, groups, _PROTOCOLS[junk], junk, shares=True)
    return [ClassRetrieval(dataset, shares=True), across]


def not_applicable(dataset: Dataset, settings: EvaluateSettings) -> list[str]:
    """A sentence for each protocol that the data names the columns of, and that has nothing to measure there."""
    said = []
    if settings.groups and dataset.groups and has_class_pairs(dataset) and not _crosses_groups(dataset):
        name = _PROTOCOLS[_junk(dataset, settings)]
        said.append(f"The protocol {name} is left out: each class lies in one group, so none is found in another.")
    if dataset.targets is not None and not _targets_differ(dataset):
        said.append("The protocol targets is left out: all examples have the same targets, so nothing can follow them.")
    return said


def selection_of(job: Job) -> Selection | None:
    """How validation selects the best step; None without validation examples, or anything to evaluate them by.

    Raises:
        RecipeError: If the metric that the recipe names cannot be measured.
    """
    protocols = [] if job.validation is None else protocols_of(job, job.validation)
    protocols = [one for one in protocols if not isinstance(one, KnnClassification)]
    wanted = job.evaluate.best_by
    if wanted in ("auto", "last"):
        metrics = protocols[0].selection_metrics if protocols and wanted == "auto" else ()
        return Selection(protocols[0], next(iter(metrics), None)) if protocols else None
    found = next((one for one in protocols if wanted in one.selection_metrics), None)
    if found is None and job.validation is not None:
        known = [metric for one in protocols for metric in one.selection_metrics]
        raise RecipeError(
            f"evaluate.best_by = {wanted!r} cannot be measured on these validation examples; "
            f"{', '.join(dict.fromkeys(known)) or 'nothing'} can.",
            hint="Use --set evaluate.best_by=auto, or last to keep the latest step.",
            reference="best-by",
        )
    return None if found is None else Selection(found, wanted)


def validate(job: Job, protocol: EvaluationProtocol, embedder: Embedder, processes: Processes) -> QueryResult | None:
    """Evaluate a model without intervals. Each process embeds its share; the first evaluates, the others get None."""
    features = protocol.extract(ModelExtractor(embedder, job.evaluate.batch_size, processes))
    if processes.rank or features is None:
        return None
    return protocol.evaluate(features, job.evaluate, bootstrap=0, seed=job.seed)


def evaluate_raw(job: Job, protocol: EvaluationProtocol, extractor: RawExtractor) -> QueryResult | None:
    """Evaluate the raw input without intervals; None if it has no features for the protocol."""
    features = protocol.extract(extractor)
    return None if features is None else protocol.evaluate(features, job.evaluate, bootstrap=0, seed=job.seed)


def health_of(model: ModelExtractor, dataset: Dataset, views: Features | None, seed: int) -> Result:
    """How well the embedding space is used. Alignment is that of classes or, without classes, that of views."""
    found = health(model.embed(dataset), dataset.classes, seed=seed)
    if views is None or views.gallery is None:
        return found
    twice = torch.arange(len(views.queries)).repeat(2)
    aligned = health(torch.cat([views.queries, views.gallery]), twice, seed=seed)
    return replace(found, values={**found.values, "alignment": aligned.values["alignment"]})


def thresholds(embeddings: torch.Tensor, geometry: GeometryName, dataset: Dataset, seed: int) -> dict[str, float]:
    """Scores from which on two examples count as the same, by what they were chosen for: `far=0.01`, `best`."""
    found = verification(embeddings, classes_of(dataset), geometry=geometry, max_pairs=PAIRS, bootstrap=0, seed=seed)
    return {name: value for name, value in found.thresholds.items() if value is not None}


def verified(model: ModelExtractor, dataset: Dataset, seed: int) -> dict[str, ProtocolResults]:
    """The protocol verification, of pairs of one class and of two; none without pairs of both kinds."""
    if not has_class_pairs(dataset):
        return {}
    rows, geometry = model.embed(dataset), model.embedder.geometry
    try:
        found = verification(
            rows, classes_of(dataset), geometry=geometry, max_pairs=PAIRS, bootstrap=PAIR_DRAWS, seed=seed
        )
    except (DataError, ShapeError):  # pairs of one kind, or a model whose embeddings are not finite
        return {}
    return {"verification": protocol_results({"model": found})}


def protocol_results(results: Mapping[str, Result]) -> ProtocolResults:
    """Results of one protocol as `evaluation.json` holds them, by `model`, `raw`, `comparison` and the like."""
    return ProtocolResults.model_validate({of: result.to_dict() for of, result in results.items()})


def word_similarities(job: Job, model: ModelExtractor) -> dict[str, WordSimilarityResult]:
    """Results by the name of each file of word pairs; none but for a training on running text."""
    if job.corpus is None:
        return {}
    vectors, geometry, options = model.embed(job.train), model.embedder.geometry, job.evaluate
    return {
        Path(file).stem: word_similarity(
            job.train.ids, vectors, Path(file), geometry=geometry, bootstrap=options.bootstrap, seed=job.seed
        )
        for file in options.words
    }


def event_values(result: QueryResult) -> Values:
    """The numbers of an `evaluation` event: value, and the ends of its interval where there is one."""
    ends = {"value": result.values, "low": result.lower, "high": result.upper}
    return {
        name: {key: numbers[name] for key, numbers in ends.items() if name in numbers}
        for name, value in result.values.items()
        if math.isfinite(value)
    }


def has_class_pairs(dataset: Dataset) -> bool:
    """Whether there are two classes, one of them with two examples."""
    if dataset.classes is None:
        return False
    sizes = torch.unique(dataset.classes[dataset.classes >= 0], return_counts=True)[1]
    return len(sizes) > 1 and int(sizes.max()) > 1


def has_gallery(dataset: Dataset) -> bool:
    """Whether the data says which are queries and which gallery."""
    return {"query", "gallery"} <= {*(dataset.roles or ())}


def _junk(dataset: Dataset, settings: EvaluateSettings) -> Junk:
    """What is left out of the neighbours of a query."""
    if settings.junk != "auto":
        return settings.junk
    return "class_and_group" if has_gallery(dataset) else "group"


def _crosses_groups(dataset: Dataset) -> bool:
    """Whether some class has examples of two groups."""
    assert dataset.groups is not None  # noqa: S101  asked of data with groups only
    first: dict[int, str] = {}
    pairs = zip(classes_of(dataset).tolist(), dataset.groups, strict=True)
    return any(label >= 0 and first.setdefault(label, group) != group for label, group in pairs)


def _targets_differ(dataset: Dataset) -> bool:
    """Whether two examples have different targets."""
    return dataset.targets is not None and len(torch.unique(dataset.targets, dim=0)) > 1


def _shares_classes(job: Job, dataset: Dataset) -> bool:
    """Whether the training examples can tell the classes of others."""
    if dataset is job.train or dataset.classes is None or job.train.classes is None:
        return False
    return len(torch.unique(job.train.classes[job.train.classes >= 0])) > 1 and bool((dataset.classes >= 0).any())
