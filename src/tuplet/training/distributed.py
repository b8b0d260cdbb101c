"""What processes that train together share: shards of batches, values of rank 0, averaged gradients."""

from collections.abc import Iterable

import torch
from torch import nn

from tuplet.engine import Processes
from tuplet.engine.gather import all_reduce_sum
from tuplet.errors import RecipeError

OVER_THE_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def shard_slice(rows: int, processes: Processes, multiple: int = 1) -> slice:
    """The rows of a batch or a data set that are this process's.

    Args:
        rows: How many there are; a multiple of `multiple`.
        processes: Who shares them.
        multiple: So many neighbouring rows stay together; shares differ by so many at most.
    """
    each, rest = divmod(rows // multiple, processes.size)
    begin = each * processes.rank + min(processes.rank, rest)
    return slice(begin * multiple, (begin + each + (processes.rank < rest)) * multiple)


def broadcast(number: float, processes: Processes) -> float:
    """The number of rank 0, on all processes."""
    mine = torch.tensor(number if processes.rank == 0 else 0.0, dtype=torch.float64)
    return float(all_reduce_sum(mine, processes))


def any_rank(is_true: bool, processes: Processes) -> bool:
    """Whether it is true on any process."""
    return is_true if processes.size == 1 else bool(all_reduce_sum(torch.tensor(int(is_true)), processes))


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """What DistributedDataParallel does, in one exchange; the loss has already taken its share of it into account."""
    if processes.size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    flat = all_reduce_sum(torch.cat([gradient.flatten() for gradient in gradients]), processes) / processes.size
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def find_batch_norm(encoder: nn.Module) -> str | None:
    """Name of the first layer that normalises over the batch; what is frozen keeps the statistics that it has."""
    return next(
        (
            name
            for name, part in encoder.named_modules()
            if isinstance(part, OVER_THE_BATCH) and all(weight.requires_grad for weight in part.parameters())
        ),
        None,
    )


def refuse_batch_of_one(encoder: nn.Module, batch_size: int) -> None:
    """One example has no spread to be normalised by.

    Raises:
        RecipeError: If the encoder normalises over a batch that holds one example.
    """
    found = find_batch_norm(encoder) if batch_size == 1 else None
    if found is not None:
        raise RecipeError(
            f"The encoder's layer {found} normalises over the batch, which holds one example.",
            hint="Use --set batch.batch_size=NUMBER with 2 or more, or --set model.encoder.norm=group "
            '("layer" for the encoder mlp).',
            reference="batch-norm-of-one",
        )
