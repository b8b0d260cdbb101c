"""Everything a training needs, built and ready: the border between recipes and training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from tuplet.data import Batch, Columns, Corpus, Dataset
from tuplet.data.fingerprint import Fingerprint
from tuplet.losses import MetricLoss
from tuplet.models import Embedder
from tuplet.sampling import Sampler
from tuplet.seeding import Draws
from tuplet.training.settings import EvaluateSettings, TrainSettings
from tuplet.types import GeometryName, Side, Supervision


@runtime_checkable
class Embed(Protocol):
    """Preprocessing, augmentation and encoder of one step; each call draws an augmentation of its own."""

    def __call__(self, inputs: Any, side: Side = "query") -> Tensor:
        """Stored inputs to embeddings `(n, dim)`, in float32 at least."""

    def unroll(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Stored series to latents, contexts and how many times of each series hold one."""


Arguments = Callable[[Embed, Batch], Mapping[str, Any]]
"""What a loss is called with: embeds a batch and names the arguments of `loss.measure`."""
Augment = Callable[[Any, Draws], Any]
ProtocolKind = Literal["relation", "classes", "train", "targets", "pairs", "scored", "views"]
"""Retrieval under a relation; by class, its classification from training examples; by targets; of partners;
correlation with the scores of pairs; retrieval of changed examples."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a training is about, decided once: see `tuplet.recipes.task`. Everyone else reads it.

    Attributes:
        supervision: What the loss uses.
        arguments: How a batch becomes the arguments of the loss; None of running text, whose steps need no batch.
        compares_examples: Whether the loss compares examples, and not each with class weights or a bank.
        split_by: What the splits share: "class" holds whole classes out, "row" examples.
        protocols: What evaluates it, the most telling first: each where the examples at hand give it something to
            measure, and `views` only if no other has anything.
        labels: What the labels of the data set mean.
        has_partners: Whether the second items of pairs are read.
        columns: Of a table, which column was read as what: an embedder finds its inputs by these names.
        geometry: How embeddings are compared after training; None as the loss compares them.
    """

    supervision: Supervision
    arguments: Arguments | None
    compares_examples: bool = True
    split_by: Literal["class", "row"] = "class"
    protocols: tuple[ProtocolKind, ...] = ()
    labels: Supervision = "class"
    has_partners: bool = False
    columns: Columns | None = None
    geometry: GeometryName | None = None

    @property
    def is_told_classes(self) -> bool:
        """Whether the loss learns which examples are of one class."""
        return self.supervision in ("class", "multi")


@dataclass(frozen=True, eq=False)
class Job:
    """One training, built and ready.

    Attributes:
        name: Of the run.
        seed: All randomness of the run is derived from it.
        train: Examples that are trained on.
        validation: Examples with classes that choose the best step; None keeps the last one.
        test: Examples on which the best embedder is evaluated.
        sampler: Positions in `train` of each global batch.
        embedder: Encoder with its preprocessing, trained in place.
        loss: With everything it owns: class weights, bank, queue.
        task: What the loss learns from, how it is called with a batch, what evaluates it.
        augment: Changes a batch of preprocessed inputs; None leaves them alone.
        recipe: Recipe as TOML, paths relative to the folder it is given.
        settings: How to train.
        evaluate: How to evaluate.
        facts: What a report should know of the data: source, split, counts (JSON-able).
        fingerprint: What the data is, example by example: a run is gone on with by the same data only. None compares
            nothing.
        origin: The run that the weights come from, and its step; None for new weights.
        corpus: Running text to train on; the examples of `train` are then its vocabulary.
        contents: Digests of what settings name a place of, by the setting: a run is gone on with by the same.
    """

    name: str
    seed: int
    train: Dataset
    validation: Dataset | None
    test: Dataset | None
    sampler: Sampler
    embedder: Embedder
    loss: MetricLoss
    task: Task
    augment: Augment | None
    recipe: Callable[[Path], str]
    settings: TrainSettings = field(default_factory=TrainSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Fingerprint | None = None
    origin: Mapping[str, Any] | None = None
    corpus: Corpus | None = None
    contents: Mapping[str, str] = field(default_factory=dict)

    @property
    def evaluation_split(self) -> tuple[str, Dataset]:
        """The examples of the evaluation, and the split they are: test, else validation, else train."""
        if self.test is not None:
            return "test", self.test
        return ("train", self.train) if self.validation is None else ("validation", self.validation)

    @property
    def batch_exceeds_dataset(self) -> str | None:
        """What to say of batches that are larger than the data; None where they are not."""
        size, there = self.sampler.batch_size, len(self.train)
        if size <= there or self.corpus is not None:
            return None
        return (
            f"A batch takes {size:,} examples, and there are {there:,} to train on: some appear in it twice or more "
            f"often. Fewer: --set batch.per_class=NUMBER or --set batch.classes_per_batch=NUMBER"
        )
