"""Everything that a training of word vectors needs, built and ready."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tuplet.data import Corpus
from tuplet.losses import NCELoss
from tuplet.models import Embedder
from tuplet.sampling import WindowSampler
from tuplet.training.settings import EvaluateSettings, TrainSettings


@dataclass(frozen=True, eq=False)
class WordJob:
    """A training of word vectors, built and ready.

    Attributes:
        name: Of the run.
        seed: All randomness of the run is derived from it.
        corpus: The text.
        sampler: Runs of words with their contexts.
        embedder: Holds one vector per word, trained in place.
        loss: With the other table of vectors, biases and noise.
        recipe: Recipe as TOML, paths relative to the folder it is given.
        settings: How to train.
        evaluate: How to evaluate.
        facts: What a report should know of the data (JSON-able).
    """

    name: str
    seed: int
    corpus: Corpus
    sampler: WindowSampler
    embedder: Embedder
    loss: NCELoss
    recipe: Callable[[Path], str]
    settings: TrainSettings
    evaluate: EvaluateSettings
    facts: Mapping[str, Any]

    def digest(self) -> str:
        """Of the words in their order: a run is gone on with by the same text only."""
        digest = hashlib.blake2b("\n".join(self.corpus.words).encode(), digest_size=16)
        for numbers in (self.corpus.ids, self.corpus.starts):
            digest.update(np.ascontiguousarray(numbers).data)
        return digest.hexdigest()

    @property
    def vectors(self) -> Tensor:
        """The table of word vectors: the encoder's own, but for the row that stands for no word."""
        return self.embedder.encoder.get_parameter("tokens.weight").detach()[1:]
