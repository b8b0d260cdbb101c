"""Encoders of text."""

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from tuplet.bounds import Count
from tuplet.errors import CheckpointError, MissingExtraError
from tuplet.models.encoders import MLP, registry, require_features
from tuplet.models.pretrained import refuse_code


@registry.register("bag-of-words")
class BagOfWords(nn.Module):
    """The mean of one learned vector per token, then a head if asked for. Order is forgotten.

    Args:
        buckets: Token ids lie in [0, buckets); 0 fills up short texts and counts for nothing.
        dim: Length of an embedding.
        hidden: Widths between tokens and embedding: () for none, one width for a linear head, more for ReLU layers.
    """

    def __init__(self, buckets: Count = 65536, dim: Count = 128, *, hidden: tuple[Count, ...] = ()) -> None:
        super().__init__()
        self.dim = dim
        width = hidden[0] if hidden else dim
        self.tokens = nn.EmbeddingBag(buckets, width, mode="mean", padding_idx=0)
        nn.init.normal_(self.tokens.weight, std=1 / math.sqrt(width))  # tokens of length about 1
        with torch.no_grad():
            self.tokens.weight[0].zero_()
        self.head = MLP(width, dim, hidden=hidden[1:], norm="none") if hidden else nn.Identity()

    def forward(self, tokens: Int64[Tensor, "n most"]) -> Float[Tensor, "n dim"]:
        """Embeddings of texts given as rows of token ids."""
        require_features(tokens, (-1,), "bag-of-words")
        return self.head(self.tokens(tokens))


@registry.register("sentence-transformers")
class SentenceTransformersFolder(nn.Module):
    """A pretrained model from a folder of the sentence-transformers format; trainable like any other encoder.

    Args:
        folder: The folder. Nothing is downloaded, and no code of it is run: a folder that holds or names some is
            refused.
    """

    reads_texts: ClassVar[bool] = True
    """Texts come as they are, not as tokens."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        try:
            from sentence_transformers import SentenceTransformer  # noqa: PLC0415  # an optional part
        except ImportError as problem:
            raise MissingExtraError(
                "The encoder 'sentence-transformers' needs the package sentence-transformers, which is not installed.",
                extra="models",
            ) from problem
        refuse_code(Path(folder))
        absolute = str(Path(folder).resolve())  # never the name of something on a hub
        try:
            self.model: Any = SentenceTransformer(
                absolute, device="cpu", local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as problem:
            raise CheckpointError(
                f"{folder} cannot be read as a sentence-transformers model: {str(problem).splitlines()[0]}",
                hint="Copy the whole folder again from where it came; nothing is downloaded.",
                reference="damaged-file",
            ) from problem
        self.dim = int(_either(self.model, "get_embedding_dimension", "get_sentence_embedding_dimension")())

    def forward(self, texts: list[str]) -> Float[Tensor, "n dim"]:
        """Embeddings of texts."""
        device = next(self.model.parameters()).device
        features = _either(self.model, "preprocess", "tokenize")(texts)
        moved = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}
        return self.model(moved)["sentence_embedding"]

    def save_files(self, folder: Path) -> None:
        """Write what is needed beside the weights: architecture and tokenizer."""
        self.model.save(str(folder))


def _either(model: Any, name: str, before: str) -> Any:
    """A method by its name since sentence-transformers 6, or the one it had before."""
    return getattr(model, name, None) or getattr(model, before)
