"""Plain text as a stream of word ids."""

import codecs
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuplet.data.words import is_unspaced, word_finder
from tuplet.errors import DataError, MissingFileError
from tuplet.storage import read_json, replaced_folder, write_json

logger = logging.getLogger(__name__)

FORMAT = 2
_BLOCK = 1 << 14  # characters looked at together
_LONGEST = 1 << 22  # characters without a space, after which a word may be cut
_MANY = 0.1  # share of the words
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

    def digest(self) -> str:
        """Of the words in their order: a run is gone on with by the same text only."""
        digest = hashlib.blake2b("\n".join(self.words).encode(), digest_size=16)
        for numbers in (self.ids, self.starts):
            digest.update(np.ascontiguousarray(numbers).data)
        return digest.hexdigest()


def read_corpus(
    files: Sequence[Path],
    *,
    min_count: int = 5,
    pattern: str = "",
    lower: bool = True,
    by_line: bool = False,
    cache: Path | None = None,
) -> Corpus:
    """Reads text files, one after the other.

    Args:
        files: Plain text in UTF-8.
        min_count: Words that occur less often are left out, as if they were not in the text; at least 1.
        pattern: Regular expression of a word, as the package `regex` reads it; "" for letters of any script.
        lower: Case is ignored.
        by_line: Each line is a text of its own, instead of each file.
        cache: Folder to keep the result in, under a name made of the content and the options.

    Returns:
        The corpus.

    Raises:
        DataError: A file is no text in UTF-8 or cannot be read, the pattern is not a regular expression, or no word is
            frequent.
    """
    options = {"min_count": min_count, "pattern": pattern, "lower": lower, "by_line": by_line}
    source = ", ".join(map(str, files))
    place = None if cache is None else cache / f"words-{_digest(files, options)}"
    if place is not None and (place / _FACTS).is_file():
        with suppress(OSError, ValueError):  # a damaged cache is no reason to stop: the text is there
            return _load(place, source)
    corpus = _read(files, word_finder(pattern, lower=lower), options, source)
    if place is not None:
        with replaced_folder(place, owns={_IDS, _FACTS}, error=DataError) as new:
            np.save(new / _IDS, corpus.ids)
            facts = {"words": corpus.words, "counts": corpus.counts.tolist(), "starts": corpus.starts.tolist()}
            write_json(new / _FACTS, {**facts, "read": corpus.read}, version=FORMAT)
        return _load(place, source)
    return corpus


def _read(files: Sequence[Path], find: Callable[[str], list[str]], options: dict[str, object], source: str) -> Corpus:
    known: dict[str, int] = {}
    parts, starts, read = [np.zeros(0, np.int32)], [0], 0
    for file in files:
        for text, is_end in _pieces(file, by_line=bool(options["by_line"])):
            if "\0" in text:
                raise _not_text(file, "it holds bytes of value 0", "utf-16")
            found = find(text)
            parts.append(np.fromiter((known.setdefault(word, len(known)) for word in found), np.int32, len(found)))
            read += len(found)
            if is_end:
                starts.append(read)
    stream = np.concatenate(parts)
    counts = np.bincount(stream, minlength=len(known))
    words = np.array(list(known), dtype=object)
    _warn_unspaced(known, counts, read, options, source)
    frequent = np.flatnonzero(counts >= int(str(options["min_count"])))
    if not len(frequent):
        raise DataError(
            f"{source} holds {read} words, {len(known)} different ones; none occurs {options['min_count']} times.",
            hint="Give more text, or use --set data.words.min_count=1."
            + " What counts as a word: --set model.preprocessing.pattern='\\w+'" * (not read),
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
        with file.open(encoding="utf-8-sig") as lines:
            if by_line:
                for line in lines:
                    yield line, True
            else:
                rest = ""
                while block := lines.read(_BLOCK):
                    text = rest + block
                    cut = len(text) if len(text) > _LONGEST else max(map(text.rfind, " \n")) + 1
                    rest = text[cut:]
                    yield text[:cut], False
                yield rest, True
    except UnicodeDecodeError as problem:
        raise _not_text(file, f"byte {_first_bad_byte(file)} is none of it", "latin1") from problem
    except OSError as problem:
        raise MissingFileError(
            f"{file} could not be read: {problem.strerror}.", hint="Check the path.", reference="missing-file"
        ) from problem


def _first_bad_byte(file: Path) -> int:
    """Where a file ceases to be UTF-8, counted from 0."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    with file.open("rb") as content:
        while block := content.read(_LONGEST):
            held = len(decoder.getstate()[0])  # begun in the block before
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                return done - held + error.start
            done += len(block)
    return done


def _not_text(file: Path, what: str, encoding: str) -> DataError:
    return DataError(
        f"{file} is not plain text in UTF-8: {what}.",
        hint=f"Save it as UTF-8, say by `iconv -f {encoding} -t utf-8`, or name another file.",
        reference="not-text",
    )


def _warn_unspaced(
    known: Mapping[str, int], counts: NDArray[np.int64], read: int, options: Mapping[str, object], source: str
) -> None:
    """Say that letters stand for words, where the text has many of a script without spaces."""
    if options["pattern"]:
        return
    letters = sum(int(counts[place]) for word, place in known.items() if len(word) < 3 and is_unspaced(word))
    if letters > _MANY * read:
        logger.warning(
            "%s: %d of %d words are single letters of scripts that put no space between words (as Chinese, Japanese, "
            "Thai). For whole words put spaces between them by a tool for the language, and --set "
            "model.preprocessing.pattern='\\S+'.",
            source,
            letters,
            read,
        )


def _digest(files: Sequence[Path], options: dict[str, object]) -> str:
    digest = hashlib.blake2b(json.dumps([FORMAT, options], sort_keys=True).encode(), digest_size=16)
    for file in files:
        try:
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "blake2b").digest())
        except OSError as problem:
            raise MissingFileError(
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
