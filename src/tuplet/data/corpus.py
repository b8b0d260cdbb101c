"""Plain text as a stream of word ids."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuplet.errors import DataError
from tuplet.storage import read_json, replaced_folder, write_json

PATTERN = r"[a-z]+(?:'[a-z]+)?"
"""What counts as a word, by default: letters, perhaps with an apostrophe among them."""
FORMAT = 1
_BLOCK = 1 << 22  # characters looked at together
_IDS, _FACTS = "ids.npy", "corpus.json"
_REMEDY = "Delete this folder; the text is then read again."


@dataclass(frozen=True, eq=False)
class Corpus:
    """Words of a vocabulary, in the order of the text.

    Args:
        words: The vocabulary, most frequent first; ties in the order of the alphabet.
        counts: How often each word occurs.
        ids: The text, as positions in `words`; rare words are left out. It may be memory-mapped.
        starts: Positions in `ids` where a text begins: no context reaches across. The first is 0.
        read: Words in the text, rare ones included.
        source: Where it was read, for messages and reports.
    """

    words: tuple[str, ...]
    counts: NDArray[np.int64]
    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    read: int
    source: str

    def __len__(self) -> int:
        return len(self.ids)


def read_corpus(
    files: Sequence[Path],
    *,
    min_count: int = 5,
    pattern: str = PATTERN,
    lower: bool = True,
    by_line: bool = False,
    cache: Path | None = None,
) -> Corpus:
    """Reads text files, one after the other.

    Args:
        files: Plain text in UTF-8; what is not UTF-8 is part of no word.
        min_count: Words that occur less often are left out, as if they were not in the text; at least 1.
        pattern: Regular expression of a word.
        lower: Case is ignored.
        by_line: Each line is a text of its own, instead of each file.
        cache: Folder to keep the result in, under a name made of the content and the options.

    Returns:
        The corpus.

    Raises:
        DataError: A file is no text or cannot be read, the pattern is no regular expression, or no word is frequent.
    """
    options = {"min_count": min_count, "pattern": pattern, "lower": lower, "by_line": by_line}
    source = ", ".join(map(str, files))
    place = None if cache is None else cache / f"words-{_digest(files, options)}"
    if place is not None and (place / _FACTS).is_file():
        with suppress(OSError, ValueError):  # a damaged cache is no reason to stop: the text is there
            return _load(place, source)
    corpus = _read(files, _compiled(pattern), options, source)
    if place is not None:
        with replaced_folder(place, owns={_IDS, _FACTS}, error=DataError) as new:
            np.save(new / _IDS, corpus.ids)
            facts = {"words": corpus.words, "counts": corpus.counts.tolist(), "starts": corpus.starts.tolist()}
            write_json(new / _FACTS, {**facts, "read": corpus.read}, version=FORMAT)
        return _load(place, source)
    return corpus


def _read(files: Sequence[Path], pattern: re.Pattern[str], options: dict[str, object], source: str) -> Corpus:
    known: dict[str, int] = {}
    parts, starts, read = [np.zeros(0, np.int32)], [0], 0
    for file in files:
        for text, is_end in _pieces(file, by_line=bool(options["by_line"])):
            if "\0" in text:
                raise DataError(
                    f"{file} is not plain text in UTF-8: it holds bytes of value 0.",
                    hint="Save it as UTF-8, say by `iconv -f utf-16 -t utf-8`, or name another file.",
                    reference="not-text",
                )
            found = pattern.findall(text.lower() if options["lower"] else text)
            parts.append(np.fromiter((known.setdefault(word, len(known)) for word in found), np.int32, len(found)))
            read += len(found)
            if is_end:
                starts.append(read)
    stream = np.concatenate(parts)
    counts = np.bincount(stream, minlength=len(known))
    words = np.array(list(known), dtype=object)
    frequent = np.flatnonzero(counts >= int(str(options["min_count"])))
    if not len(frequent):
        raise DataError(
            f"{source} holds {read} words, {len(known)} different ones; none occurs {options['min_count']} times.",
            hint="Give more text, or type --set data.words.min_count=1.",
            reference="no-words",
        )
    order = sorted(frequent.tolist(), key=lambda word: (-counts[word], words[word]))
    renamed = np.full(len(known), -1, np.int32)
    renamed[order] = np.arange(len(order), dtype=np.int32)
    ids = renamed[stream]
    kept = ids >= 0
    before = np.concatenate([[0], np.cumsum(kept)])
    return Corpus(
        words=tuple(words[order].tolist()),
        counts=counts[order].astype(np.int64),
        ids=ids[kept],
        starts=np.unique(before[starts[:-1]]),
        read=read,
        source=source,
    )


def _pieces(file: Path, *, by_line: bool) -> Iterator[tuple[str, bool]]:
    """Parts of a file that cut no word, and whether a text ends after each."""
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            if by_line:
                for line in lines:
                    yield line, True
            else:
                rest = ""
                while block := lines.read(_BLOCK):
                    text = rest + block
                    cut = max(map(text.rfind, " \n")) + 1
                    rest = text[cut:]
                    yield text[:cut], False
                yield rest, True
    except OSError as problem:
        raise DataError(
            f"{file} could not be read: {problem.strerror}.", hint="Check the path.", reference="missing-file"
        ) from problem


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as problem:
        raise DataError(
            f"data.words.pattern = {pattern!r} is no regular expression: {problem}.",
            hint=r"For example: [a-z]+(?:'[a-z]+)?, or \w+ for any language.",
            reference="bad-pattern",
        ) from problem
    if compiled.groups:
        raise DataError(
            f"data.words.pattern = {pattern!r} has a group.",
            hint="Write (?:...) instead of (...).",
            reference="bad-pattern",
        )
    return compiled


def _digest(files: Sequence[Path], options: dict[str, object]) -> str:
    digest = hashlib.blake2b(json.dumps([FORMAT, options], sort_keys=True).encode(), digest_size=16)
    for file in files:
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
        except OSError as problem:
            raise DataError(
                f"{file} could not be read: {problem.strerror}.", hint="Check the path.", reference="missing-file"
            ) from problem
    return digest.hexdigest()


def _load(folder: Path, source: str) -> Corpus:
    facts = read_json(folder / _FACTS, version=FORMAT, error=DataError, remedy=_REMEDY)
    return Corpus(
        words=tuple(facts["words"]),
        counts=np.array(facts["counts"], np.int64),
        ids=np.load(folder / _IDS, mmap_mode="r", allow_pickle=False),
        starts=np.array(facts["starts"], np.int64),
        read=facts["read"],
        source=source,
    )
