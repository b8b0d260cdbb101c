"""What counts as a word, in any script; and words of a known vocabulary as what an encoder reads."""

import importlib.util
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar
from unicodedata import normalize

import torch
from jaxtyping import Int, Int64
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tuplet.data.dataset import Inputs
from tuplet.data.manifest import Kind
from tuplet.errors import DataError, MissingExtraError

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
"""Scripts that put no space between words: where a word ends takes a dictionary."""
_LETTERS = rf"[\p{{L}}\p{{M}}\u200c\u200d--[{_UNSPACED}]]+"
PATTERN = rf"(?V1){_LETTERS}(?:'{_LETTERS})?|[\p{{L}}&&[{_UNSPACED}]]\p{{M}}*"
"""What counts as a word, by default: letters of a script with their marks, perhaps with an apostrophe among them.

Digits are part of no word. In scripts without spaces (Chinese, Japanese, Thai) each letter counts as one.
"""
_PLAIN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)?")  # what PATTERN means in a text of ASCII, four times as fast
_CHARACTERS = str.maketrans({"\u2019": "'", "\u00ad": None})  # as keyboards write it; a hyphen that is not shown


def word_finder(pattern: str, *, lower: bool) -> Callable[[str], list[str]]:
    """What returns the words of a text, in Unicode form NFC, with plain apostrophes and without soft hyphens.

    Args:
        pattern: Regular expression of a word, as the package `regex` reads it; "" for `PATTERN`.
        lower: In lower case.

    Raises:
        DataError: The pattern is not a regular expression, or has a group.
        MissingExtraError: The package is not installed.
    """
    if importlib.util.find_spec("regex") is None:
        raise MissingExtraError(
            "Words are found with the package regex, which is not installed.",
            extra="app",
        )
    import regex  # noqa: PLC0415  optional: part of the extra `app`

    try:
        compiled = regex.compile(pattern or PATTERN)
    except regex.error as problem:
        raise DataError(
            f"model.preprocessing.pattern = {pattern!r} is not a regular expression: {problem}.",
            hint=r"For example: \p{L}+ for letters of any script, or \w+ for digits too.",
            reference="bad-pattern",
        ) from problem
    if compiled.groups:
        raise DataError(
            f"model.preprocessing.pattern = {pattern!r} has a group.",
            hint="Write (?:...) instead of (...).",
            reference="bad-pattern",
        )

    def find(text: str) -> list[str]:
        if pattern in ("", PATTERN) and text.isascii():
            return _PLAIN.findall(text.lower() if lower else text)
        text = normalize("NFC", text).translate(_CHARACTERS)
        return list(compiled.findall(normalize("NFC", text.lower()) if lower else text))

    return find


def is_unspaced(word: str) -> bool:
    """Whether a word is a letter of a script that puts no space between words."""
    import regex  # noqa: PLC0415  optional: part of the extra `app`

    return regex.fullmatch(rf"[{_UNSPACED}]\p{{M}}*", word) is not None


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
