"""Word similarity: do word vectors order pairs as people do?"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.bounds import Number, bounded
from tuplet.engine.topk import nearness, pair_scores
from tuplet.errors import DataError, ShapeError
from tuplet.evaluation.bootstrap import FEW_CLASSES, class_draws, percentile_interval
from tuplet.evaluation.correlation import spearman
from tuplet.evaluation.inputs import Arrays, embedding_rows
from tuplet.evaluation.result import Result
from tuplet.types import GeometryName


@dataclass(frozen=True)
class WordPairs:
    """Pairs of words and how alike people find them.

    Attributes:
        pairs: The words.
        scores: The larger, the more alike.
    """

    pairs: tuple[tuple[str, str], ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class WordSimilarityResult(Result):
    """What `word_similarity` found: `spearman` over the scored pairs, and `coverage`, their share of all pairs.

    Attributes:
        missing: Words that have no vector, sorted.
    """

    missing: tuple[str, ...]


def read_word_pairs(source: Path) -> WordPairs:
    """Read a file in the shape of WordSim-353, SimLex-999 or MEN.

    Columns are separated by tabs, commas or spaces: two words, then anything, of which the first column that holds
    numbers is the score. Lines that start with `#` and a line of column names are skipped.

    Args:
        source: The file, in UTF-8.

    Returns:
        All pairs in order.

    Raises:
        DataError: If the file cannot be read, or lines lack words or a score; all such lines are named.
    """
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise _unreadable(f"{source} cannot be read: {problem}.") from problem
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]
    sample = rows[0][1] if rows else ""
    separator = next((mark for mark in "\t," if mark in sample), None)
    table = [(number, _fields(line, separator)) for number, line in rows]
    # The second line decides if it can: the first may name its columns, and name some of them 1 and 2.
    likely = (row for _, row in reversed(table[:2]))
    column = next((at for row in likely for at in range(2, len(row)) if _is_number(row[at])), None)
    if column is None:
        raise _unreadable(f"{source} has no column of numbers behind two columns of words in its first two lines.")
    if not (len(table[0][1]) > column and _is_number(table[0][1][column])):
        table = table[1:]  # names of columns
    problems = [
        number for number, row in table if len(row) <= column or not _is_number(row[column]) or not all(row[:2])
    ]
    if problems:
        shown = ", ".join(map(str, problems[:10])) + (f" and {len(problems) - 10} more" if len(problems) > 10 else "")
        raise _unreadable(
            f"{source}: {len(problems)} lines without two words and a number in column {column + 1}: {shown}."
        )
    return WordPairs(tuple((row[0], row[1]) for _, row in table), tuple(float(row[column]) for _, row in table))


@bounded
def word_similarity(
    words: Sequence[str],
    vectors: Float[Tensor, "words dim"] | Arrays,
    pairs: WordPairs | Path,
    *,
    geometry: GeometryName = "cosine",
    missing: Literal["exclude", "zero"] = "exclude",
    bootstrap: Number = 1000,
    seed: int = 0,
) -> WordSimilarityResult:
    """Rank correlation between scores of word vectors and scores of people.

    Args:
        words: The vocabulary; a word of the file that is not in it is also looked up in lower case.
        vectors: Vector of each word.
        pairs: What people said, or the file of it.
        geometry: How two vectors are compared.
        missing: Pairs with a word that has no vector: leave them out, or give them the score 0.
        bootstrap: Resamples of pairs behind the 95 % interval; 0 for none.
        seed: Of the resamples.

    Returns:
        Spearman's rho and coverage; NaN for rho if fewer than two pairs are scored or all scores are equal.

    Raises:
        ShapeError: If there is not one vector for each word.
        DataError: If the file cannot be used.
        MissingExtraError: If scipy is not installed.
    """
    rows_of = embedding_rows(vectors, "vectors")
    if len(words) != len(rows_of):
        raise ShapeError(
            f"There are {len(words)} words and {len(rows_of)} vectors; one vector for each word is expected.",
            hint="Pass the vocabulary in the order of the rows.",
            reference="words-and-vectors",
        )
    rated = read_word_pairs(pairs) if isinstance(pairs, Path) else pairs
    places = dict(zip(reversed(words), range(len(words) - 1, -1, -1), strict=True))  # of equal words the first
    found = [[places.get(word, places.get(word.lower(), -1)) for word in pair] for pair in rated.pairs]
    rows = torch.tensor(found, dtype=torch.int64).reshape(-1, 2)
    known = (rows >= 0).all(1)
    scores = pair_scores(rows_of[rows[:, 0].clamp_min(0)], rows_of[rows[:, 1].clamp_min(0)], geometry).detach().cpu()
    keys = nearness(scores, geometry).where(known, 0.0)
    scored = known if missing == "exclude" else torch.ones_like(known)
    mine, theirs = keys[scored].numpy(), np.array(rated.scores)[scored.numpy()]
    absent = {
        word for pair, row in zip(rated.pairs, found, strict=True) for word, at in zip(pair, row, strict=True) if at < 0
    }
    lower, upper = _interval(mine, theirs, bootstrap, seed)
    return WordSimilarityResult(
        values={"spearman": spearman(mine, theirs), "coverage": float(known.double().mean()) if len(known) else 0.0},
        lower=lower,
        upper=upper,
        counts={"n_pairs": len(known), "n_scored": len(mine), "n_missing_words": len(absent)},
        settings={"geometry": geometry, "missing": missing, "bootstrap": bootstrap, "seed": seed},
        few_classes=len(mine) < FEW_CLASSES,
        missing=tuple(sorted(absent)),
    )


def _interval(
    mine: np.ndarray, theirs: np.ndarray, bootstrap: int, seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    found = [
        spearman(mine[sampled], theirs[sampled])
        for some in (class_draws(len(mine), bootstrap, seed) if len(mine) else ())
        for sampled in (torch.repeat_interleave(times.long()).numpy() for times in some)
    ]
    if not found:
        return {}, {}
    low, high = percentile_interval(torch.tensor(found, dtype=torch.float64)[:, None])[:, 0].tolist()
    return {"spearman": low}, {"spearman": high}


def _fields(line: str, separator: str | None) -> list[str]:
    fields = line.split() if separator is None else next(csv.reader([line], delimiter=separator))
    return [field.strip() for field in fields]


def _is_number(field: str) -> bool:
    try:
        return bool(np.isfinite(float(field)))
    except ValueError:
        return False


def _unreadable(what: str) -> DataError:
    return DataError(
        what,
        hint="Each line is two words and a number, separated by tabs, commas or spaces; `#` starts a comment.",
        reference="word-pairs-file",
    )
