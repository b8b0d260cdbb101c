"""Word vectors in the formats of the program word2vec, which gensim and many others read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.data import WordPreprocessing
from tuplet.errors import CheckpointError, ShapeError
from tuplet.models.embedder import Embedder
from tuplet.storage import replaced_file


def word_vectors(embedder: Embedder) -> tuple[tuple[str, ...], Float[Tensor, "words dim"]]:
    """The vocabulary of an embedder of words, most frequent first, and the vector of each word.

    Raises:
        ShapeError: If the embedder is of another kind.
    """
    if not isinstance(embedder.preprocessing, WordPreprocessing):
        raise ShapeError(
            f"The embedder embeds items of the kind {embedder.preprocessing.kind}, not words.",
            hint="Train word vectors: tuplet train corpus.txt",
            reference="not-words",
        )
    words = embedder.preprocessing.words
    places = torch.arange(1, len(words) + 1, device=embedder.device)
    with torch.no_grad():
        return words, embedder.encoder(places[:, None]).float().cpu()


def save_word2vec(path: Path | str, words: Sequence[str], vectors: Float[Tensor, "words dim"]) -> None:
    """Write word vectors, whole or not at all.

    Args:
        path: `NAME.bin` for the binary format (float32), anything else for the text format.
        words: In the order of the rows; none holds white space.
        vectors: One row per word.

    Raises:
        ShapeError: If there is not one vector for each word, or a word holds white space.
        CheckpointError: If the file cannot be written.
    """
    if len(words) != len(vectors) or any(not word or word.split() != [word] for word in words):
        raise ShapeError(
            f"There are {len(words)} words and {len(vectors)} vectors, or a word is empty or holds white space.",
            hint="Give one row for each word; the format separates words by white space.",
            reference="words-and-vectors",
        )
    rows = vectors.detach().cpu().numpy().astype("<f4")
    is_binary = Path(path).suffix == ".bin"
    with replaced_file(path, error=CheckpointError) as partial, partial.open("wb") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
        for word, row in zip(words, rows, strict=True):
            numbers = row.tobytes() if is_binary else " ".join(map(_shortest, row)).encode()
            file.write(word.encode() + b" " + numbers + b"\n")


def _shortest(number: np.float32) -> str:
    """The fewest digits that read back as the same float32."""
    return np.format_float_positional(number, unique=True, trim="0")
