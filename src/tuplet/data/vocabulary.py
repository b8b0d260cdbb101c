"""Words of a known vocabulary as what an encoder reads."""

import re
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tuplet.data.corpus import PATTERN
from tuplet.data.dataset import Inputs
from tuplet.data.manifest import Kind


@dataclass(frozen=True)
class WordPreprocessing:
    """Words, or texts of several words, as their places in a vocabulary, counted from 1.

    Words that the vocabulary does not hold count for nothing.

    Args:
        words: The vocabulary.
        pattern: Regular expression of a word, without groups.
        lower: Case is ignored.
    """

    kind: ClassVar[Kind] = "words"
    words: tuple[str, ...] = field(default=(), repr=False)
    pattern: str = PATTERN
    lower: bool = True

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words, 1)}

    def load(self, items: Any) -> list[Tensor]:
        """Places of the words of each text."""
        found = (re.findall(self.pattern, str(item).lower() if self.lower else str(item)) for item in items)
        return [
            torch.tensor([self._places[word] for word in words if word in self._places], dtype=torch.int32)
            for words in found
        ]

    def fit(self, inputs: Inputs) -> "WordPreprocessing":
        """The vocabulary is known before."""
        del inputs
        return replace(self)

    def __call__(self, inputs: list[Tensor]) -> Int64[Tensor, "n tokens"]:
        """Places, filled up with 0."""
        padded = pad_sequence(inputs, batch_first=True).long()
        return functional.pad(padded, (0, 1)) if not padded.shape[1] else padded

    def to_config(self) -> dict[str, Any]:
        """JSON form; `preprocessing_from_config` reads it back."""
        return {"kind": self.kind, **asdict(self)}
