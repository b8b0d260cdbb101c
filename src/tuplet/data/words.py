"""What counts as a word, in any script."""

import importlib.util
import re
from collections.abc import Callable
from unicodedata import normalize

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
