"""Encoding a large batch in chunks (gradient cache): the gradient of the whole batch, the memory of one chunk.

Chunks are encoded without keeping their activations; the loss sees all embeddings; in the backward pass each chunk is
encoded once more, from the random state that it had, and gives the encoder its share of the gradient. Everything that
this needs lives in the graph of the step: nothing is left behind, and an encoder may be called any number of times.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tuplet.errors import RecipeError
from tuplet.training.distributed import find_batch_norm

Encode = Callable[[Any], tuple[Tensor, ...]]


def encode_in_chunks(encode: Encode, inputs: Any, rows: int) -> tuple[Tensor, ...]:
    """What `encode(inputs)` returns, with the activations of so many rows in memory at a time.

    Dropout is drawn chunk by chunk, and drawn alike both times.

    Args:
        encode: Treats each row by itself; returns tensors with a row for each.
        inputs: A tensor or a list.
        rows: Of a chunk; 0 encodes all at once.
    """
    if not 0 < rows < len(inputs):
        return encode(inputs)
    parts = [inputs[start : start + rows] for start in range(0, len(inputs), rows)]
    learns = torch.ones((), requires_grad=True)  # torch looks at tensors that go in, not at weights
    found = [checkpoint(_encode_part, encode, part, learns, use_reentrant=True) for part in parts]
    return tuple(map(torch.cat, zip(*found, strict=True)))


def _encode_part(encode: Encode, part: Any, _learns: Tensor) -> tuple[Tensor, ...]:
    return encode(part)


def refuse_chunks(encoder: nn.Module, rows: int) -> None:
    """Chunks need an encoder that treats each example by itself.

    Args:
        encoder: What would be encoded in chunks.
        rows: `train.chunk`.

    Raises:
        RecipeError: If the encoder normalises over the batch, of which it would see one chunk at a time.
    """
    found = find_batch_norm(encoder) if rows else None
    if found is not None:
        raise RecipeError(
            f"The encoder's layer {found} normalises over the batch, of which it would see {rows} rows at a time "
            f"(train.chunk = {rows}): the gradient would not be that of the whole batch.",
            hint='Use --set model.encoder.norm=group (norm="group" in a recipe; "layer" for the encoder mlp), '
            "or --set train.chunk=0.",
            reference="batch-norm-in-chunks",
        )
