"""Words of a known vocabulary as what an encoder reads."""

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Int, Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tuplet.data.dataset import Inputs
from tuplet.data.manifest import Kind
from tuplet.data.words import word_finder


@dataclass(frozen=True)
class WordPreprocessing:
    """Words, or texts of several words, as their places in a vocabulary, counted from 1.

    Words that the vocabulary does not hold count for nothing.

    Args:
        words: The vocabulary.
        pattern: Regular expression of a word, without groups, as the package `regex` reads it; "" for
            letters of any script with their marks, perhaps with an apostrophe among them. In scripts without spaces
            (Chinese, Japanese, Thai) each letter is then a word.
        lower: Case is ignored.
    """

    kind: ClassVar[Kind] = "words"
    words: tuple[str, ...] = field(default=(), repr=False)
    pattern: str = ""
    lower: bool = True

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words, 1)}

    def load(self, items: Any) -> list[Tensor]:
        """Places of the words of each text."""
        find = word_finder(self.pattern, lower=self.lower)
        return [
            torch.tensor([self._places[word] for word in find(str(item)) if word in self._places], dtype=torch.int32)
            for item in items
        ]

    def fit(self, inputs: Inputs) -> "WordPreprocessing":
        """The vocabulary is known before."""
        del inputs
        return replace(self)

    def __call__(self, inputs: list[Tensor] | Int[Tensor, "n tokens"]) -> Int64[Tensor, "n tokens"]:
        """Places, filled up with 0."""
        padded = inputs.long() if isinstance(inputs, Tensor) else pad_sequence(inputs, batch_first=True).long()
        return functional.pad(padded, (0, 1)) if not padded.shape[1] else padded

    def to_config(self) -> dict[str, Any]:
        """JSON form; `preprocessing_from_config` reads it back."""
        return {"kind": self.kind, **asdict(self)}
