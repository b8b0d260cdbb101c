"""What may be wrong with the data of a run, an index or a collection: one table of findings, the strongest first."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet.app.history import recipe_of
from tuplet.data import Dataset, Manifest, load_dataset
from tuplet.data.fingerprint import Fingerprint
from tuplet.data.raw import raw_features
from tuplet.errors import DataError
from tuplet.evaluation import health
from tuplet.evaluation.audit import FAR, LabelIssues, confused, duplicate_groups, label_issues, outliers
from tuplet.index import Index
from tuplet.models import Embedder
from tuplet.recipes import Reader, build, load_recipe
from tuplet.recipes.schema import Data, Recipe
from tuplet.seeding import derive
from tuplet.training.record import read_fingerprint
from tuplet.training.trial import fitted
from tuplet.types import GeometryName

Progress = Callable[[str], None]
_AT_ONCE = 1000
_ALIKE = 0.999999
"""Cosine from which two embeddings of an index are one: those of a class may well be near each other."""
_FEW = 10
"""So many examples, or fewer, say nothing of what is far."""


@dataclass(frozen=True)
class Finding:
    """One example that may be wrong.

    Args:
        id: Name of the example.
        finding: "duplicate", "label" or "outlier".
        evidence: The larger the surer: of copies 1 across splits and 0.5 within one, of labels how much more neighbours
            are of another class, of outliers robust deviations from the median.
        label: Its class.
        split: Of the run; "" where it is in none.
        suggested: The class that its neighbours have.
        other: The example that speaks against it: the first copy, or the nearest of the suggested class.
        group: Number of the group of copies.
        exclude: "yes" for what `tuplet train --exclude` leaves out: all copies but the first.
    """

    id: str
    finding: str
    evidence: float
    label: str = ""
    split: str = ""
    suggested: str = ""
    other: str = ""
    group: str = ""
    exclude: str = ""


@dataclass(frozen=True)
class Audit:
    """Findings, and what is to be known of the whole.

    Args:
        examples: How many were looked at.
        findings: Copies across splits, then copies, labels and outliers, each with the strongest evidence first.
        confusions: Two classes, and how many examples of the first lie among the second.
        dimensions: How many directions the embeddings use, and how many there are.
        dataset: The decoded examples, for pictures; None of an index, which holds embeddings alone.
        positions: Position of each name in it.
    """

    examples: int
    findings: tuple[Finding, ...]
    confusions: tuple[tuple[str, str, int], ...]
    dimensions: tuple[float, int]
    dataset: Dataset | None
    positions: dict[str, int]

    def table(self) -> str:
        """The findings as CSV."""
        file = io.StringIO()
        writer = csv.DictWriter(file, [field.name for field in fields(Finding)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(finding) | {"evidence": f"{finding.evidence:.4f}"} for finding in self.findings)
        return file.getvalue()


@dataclass(frozen=True)
class _Examined:
    """What an audit looks at, wherever it is from."""

    ids: Sequence[str]
    labels: Tensor | None
    class_names: Sequence[str]
    splits: Sequence[str]
    embeddings: Tensor
    geometry: GeometryName


def audit(
    run: Path,
    cache: Path,
    *,
    folds: int = 2,
    least: float = 0.99,
    device: torch.device | str = "cpu",
    trust: bool = False,
    progress: Progress = lambda _: None,
) -> Audit:
    """Look for copies, wrong labels and outliers among the data of a run.

    Args:
        run: Folder of the run.
        cache: Folder for data that is generated or decoded once.
        folds: Train the recipe so many times, each time without a part of the examples, which are then evaluated by a
            model that has not learned their labels. 0 asks the model of the run alone.
        least: Cosine of two inputs from which they are copies.
        device: Where to train and embed.
        trust: Import what an encoder `callable` names.
        progress: Is reported what is done next.

    Raises:
        DataError: If there is no run, or its data is gone or has no classes.
    """
    recipe = load_recipe(recipe_of(run))
    reader = Reader(cache)
    manifest = reader.manifest(recipe.data)
    if manifest.labels is None or manifest.pairs is not None:
        raise DataError(
            f"{manifest.source} has no classes that an audit could ask about.",
            hint="Audit a run whose examples have one class each.",
            reference="no-labels",
        )
    embedder = Embedder.load(run / "model", trust=trust).to(device)
    examined, dataset = _embedded(manifest, embedder, _splits(run, manifest), progress)
    copies = duplicate_groups(raw_features(dataset), least, contents=Fingerprint.of(manifest).contents)
    if folds:
        issues = label_issues_by_folds(recipe, manifest, reader, folds, device, trust=trust, progress=progress)
        return _audited(examined, copies, issues, dataset)
    return _audited(examined, copies, _issues(examined), dataset)


def audit_collection(
    manifest: Manifest, embedder: Embedder, *, least: float = 0.99, progress: Progress = lambda _: None
) -> Audit:
    """The same of a collection that a model has not been trained on, and so finds plausible by itself alone.

    Args:
        manifest: The collection. Without classes copies and outliers are found.
        embedder: The model.
        least: Cosine of two inputs from which they are copies.
        progress: Is reported what is done next.
    """
    splits = manifest.splits or ("",) * len(manifest)
    examined, dataset = _embedded(replace(manifest, pairs=None), embedder, splits, progress)
    copies = duplicate_groups(raw_features(dataset), least, contents=Fingerprint.of(manifest).contents)
    return _audited(examined, copies, _issues(examined), dataset)


def audit_index(index: Index, *, progress: Progress = lambda _: None) -> Audit:
    """The same of the items of an index, by the embeddings that it holds: copies have one content, or one embedding.

    Args:
        index: What is looked at; the column `label` holds the classes, if there are any.
        progress: Is reported what is done next.
    """
    facts = list(index.items)
    progress(f"reading {len(facts):,} items")
    ids = [str(fact["id"]) for fact in facts]
    rows, contents = np.empty((len(ids), index.dim), np.float32), []
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        found, known = index.fetch(part), index.known(part)
        rows[start : start + len(part)] = [found[name].vector for name in part]
        contents += [known[name] if int(known[name], 16) else name for name in part]  # 0 is an unknown content
    names = sorted({str(fact["label"]) for fact in facts if fact.get("label") is not None})
    numbers = {name: at for at, name in enumerate(names)}
    labels = torch.tensor([numbers.get(str(fact.get("label")), -1) for fact in facts], dtype=torch.int64)
    splits = [str(fact.get("split") or "") for fact in facts]
    embeddings = torch.from_numpy(rows)
    examined = _Examined(ids, labels if names else None, names, splits, embeddings, index.geometry)
    copies = duplicate_groups(embeddings, _ALIKE, contents=tuple(contents))
    return _audited(examined, copies, _issues(examined), None)


def _embedded(
    manifest: Manifest, embedder: Embedder, splits: Sequence[str], progress: Progress
) -> tuple[_Examined, Dataset]:
    progress(f"embedding {len(manifest):,} examples")
    dataset = load_dataset(manifest, embedder.preprocessing)
    labels = None if manifest.labels is None else torch.from_numpy(manifest.labels)
    rows = embedder.embed(dataset)
    return _Examined(manifest.ids, labels, manifest.class_names, splits, rows, embedder.geometry), dataset


def _issues(examined: _Examined) -> LabelIssues | None:
    """What the neighbours of each example say, the example itself left out."""
    rows, labels = examined.embeddings, examined.labels
    if labels is None or len(examined.class_names) < 2:
        return None
    return label_issues(rows, labels, rows, labels, examined.geometry, exclude=torch.arange(len(labels)))


def _audited(
    examined: _Examined, copies: list[NDArray[np.int64]], issues: LabelIssues | None, dataset: Dataset | None
) -> Audit:
    """All findings, and what is to be known of the whole."""
    rows, labels, names = examined.embeddings, examined.labels, examined.class_names
    findings = _copies(examined, copies)
    pairs: list[tuple[int, int, int]] = []
    if issues is not None and labels is not None:
        findings += _labels(examined, issues)
        pairs = confused(labels, issues.suggested, issues.evidence)
    if len(rows) > _FEW:
        far = outliers(rows, examined.geometry)
        order = far.argsort(descending=True)[: int((far >= FAR).sum())].tolist()
        findings += [_finding(examined, at, "outlier", float(far[at])) for at in order]
    rank = float(health(rows).values["effective_rank"]) if len(rows) > 1 else float(len(rows))
    return Audit(
        len(rows),
        tuple(findings),
        tuple((names[one], names[other], count) for one, other, count in pairs),
        (rank, rows.shape[1]),
        dataset,
        {name: at for at, name in enumerate(examined.ids)},
    )


def _splits(run: Path, manifest: Manifest) -> Sequence[str]:
    known = read_fingerprint(run)
    of = {} if known is None else dict(zip(known.ids, known.splits, strict=True))
    return [of.get(name, "") for name in manifest.ids]


def _finding(examined: _Examined, at: int, what: str, evidence: float, **more: str) -> Finding:
    label = -1 if examined.labels is None else int(examined.labels[at])
    name = examined.class_names[label] if label >= 0 else ""
    return Finding(examined.ids[at], what, evidence, name, examined.splits[at], **more)


def _copies(examined: _Examined, groups: list[NDArray[np.int64]]) -> list[Finding]:
    """Groups of copies; those that stand in several splits first, since an evaluation counts them as unseen."""
    splits = examined.splits
    groups.sort(key=lambda group: len({splits[at] for at in group}) == 1)
    found = []
    for number, group in enumerate(groups):
        evidence = 1.0 if len({splits[at] for at in group}) > 1 else 0.5
        first = examined.ids[group[0]]
        for place, at in enumerate(group.tolist()):
            more = {"other": first if place else "", "group": str(number + 1), "exclude": "yes" if place else ""}
            found.append(_finding(examined, at, "duplicate", evidence, **more))
    return found


def _labels(examined: _Examined, issues: LabelIssues) -> list[Finding]:
    """Labels that more neighbours contradict than confirm."""
    order = issues.evidence.argsort(descending=True)[: int((issues.evidence > 0).sum())].tolist()
    return [
        _finding(
            examined,
            at,
            "label",
            float(issues.evidence[at]),
            suggested=examined.class_names[int(issues.suggested[at])],
            other=examined.ids[int(issues.nearest[at])],
        )
        for at in order
    ]


class _Fold(Reader):
    """The data with a part of it held out."""

    def __init__(self, cache: Path, manifest: Manifest, held: NDArray[np.bool_]) -> None:
        super().__init__(cache)
        self.held_out = replace(manifest, splits=tuple("test" if one else "train" for one in held), roles=None)

    def manifest(self, data: Data) -> Manifest:
        """The same whatever is asked for."""
        del data
        return self.held_out


def label_issues_by_folds(
    recipe: Recipe,
    manifest: Manifest,
    reader: Reader,
    folds: int,
    device: torch.device | str,
    *,
    trust: bool,
    progress: Progress,
) -> LabelIssues:
    """Each example by a model that was trained without it."""
    assert manifest.labels is not None  # noqa: S101  asked above
    labels = torch.from_numpy(manifest.labels)
    split = recipe.data.split.model_copy(update={"by": "row", "given": True, "validation": 0.0})
    held_recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": split})})
    part = _dealt(manifest.labels, folds, recipe.seed)
    count = len(labels)
    evidence, suggested, nearest = torch.full((count,), -1.0), torch.full((count,), -1), torch.full((count,), -1)
    for fold in range(folds):
        progress(f"training {fold + 1} of {folds}, on the other examples")
        held = part == fold
        job = build(held_recipe, cache=reader.cache, reader=_Fold(reader.cache, manifest, held), trust=trust)
        embedder = fitted(job, device)
        asked, rest = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (held, ~held))
        found = label_issues(
            embedder.embed(load_dataset(manifest.take(asked.numpy()), embedder.preprocessing)),
            labels[asked],
            embedder.embed(load_dataset(manifest.take(rest.numpy()), embedder.preprocessing)),
            labels[rest],
            embedder.geometry,
        )
        evidence[asked], suggested[asked] = found.evidence, found.suggested
        nearest[asked] = torch.where(found.nearest >= 0, rest[found.nearest.clamp_min(0)], -1)
    return LabelIssues(evidence, suggested, nearest)


def _dealt(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A part of each example: every class is dealt out evenly."""
    order = torch.randperm(len(labels), generator=derive(seed, "audit")).numpy()
    part = np.empty(len(labels), np.int64)
    sorted_by_class = order[np.argsort(labels[order], kind="stable")]
    part[sorted_by_class] = np.arange(len(labels)) % folds
    return part
