"""What an embedder is worth: retrieval among held-out examples, beside that of the raw input."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from tuplet.data import Dataset, raw_features
from tuplet.engine import Processes
from tuplet.engine.gather import everyones
from tuplet.evaluation import RetrievalResult, retrieval, verification
from tuplet.models import Embedder
from tuplet.training.settings import EvaluateSettings
from tuplet.training.together import share
from tuplet.types import GeometryName


def embed_together(embedder: Embedder, dataset: Dataset, settings: EvaluateSettings, processes: Processes) -> Tensor:
    """Embeddings of a data set, (examples, dim); each process embeds its share."""
    part = replace(dataset, inputs=dataset.inputs[share(len(dataset), processes)])
    return everyones(embedder.embed(part, batch_size=settings.batch_size), processes)


def judge_embedder(
    embedder: Embedder, dataset: Dataset, settings: EvaluateSettings, processes: Processes
) -> RetrievalResult | None:
    """Retrieval of each example among the others, without intervals; the first process judges, the others get None."""
    embeddings = embed_together(embedder, dataset, settings, processes)
    return None if processes.rank else _retrieve(embeddings, dataset, embedder.geometry, settings)


def judge_raw(dataset: Dataset, settings: EvaluateSettings) -> RetrievalResult:
    """The same for the raw input: its numbers as they are, centred, compared by cosine."""
    return _retrieve(raw_features(dataset), dataset, "cosine", settings)


def protocols(
    embeddings: Tensor, geometry: GeometryName, dataset: Dataset, settings: EvaluateSettings, seed: int
) -> dict[str, dict[str, RetrievalResult]]:
    """The embeddings and the raw input, judged with intervals under every protocol that the data allows.

    Args:
        embeddings: One row per example.
        geometry: How they are compared.
        dataset: Examples with classes.
        settings: How to judge.
        seed: Of the draws behind intervals.

    Returns:
        By protocol (`all`; `other_groups`, where the query's own group does not count), then by `model` and `raw`.
    """
    judged: dict[str, dict[str, RetrievalResult]] = {}
    for protocol in ("all", "other_groups") if settings.groups and dataset.groups else ("all",):
        groups = dataset.groups if protocol == "other_groups" else None
        options: Any = {"groups": groups, "bootstrap": settings.bootstrap, "seed": seed}
        judged[protocol] = {
            "model": _retrieve(embeddings, dataset, geometry, settings, **options),
            "raw": _retrieve(raw_features(dataset), dataset, "cosine", settings, **options),
        }
    return judged


def thresholds(embeddings: Tensor, geometry: GeometryName, dataset: Dataset, seed: int) -> dict[str, float]:
    """Scores from which on two examples count as the same, by what they were chosen for: `far=0.01`, `best`."""
    judged = verification(embeddings, _classes(dataset), geometry=geometry, bootstrap=0, seed=seed)
    return {name: value for name, value in judged.thresholds.items() if value is not None}


def _classes(dataset: Dataset) -> Tensor:
    assert dataset.classes is not None  # noqa: S101  what has none is not judged by them
    return dataset.classes


def values_of(result: RetrievalResult) -> dict[str, dict[str, float]]:
    """The numbers of an `evaluation` event: value, and the ends of its interval where there is one."""
    ends = {"value": result.values, "low": result.lower, "high": result.upper}
    return {name: {key: numbers[name] for key, numbers in ends.items() if name in numbers} for name in result.values}


def _retrieve(
    embeddings: Tensor,
    dataset: Dataset,
    geometry: GeometryName,
    settings: EvaluateSettings,
    *,
    groups: Sequence[str] | None = None,
    bootstrap: int = 0,
    seed: int = 0,
) -> RetrievalResult:
    return retrieval(
        embeddings,
        _classes(dataset),
        geometry=geometry,
        groups=groups,
        top=sorted({1, *settings.top}),
        bootstrap=bootstrap,
        seed=seed,
    )
