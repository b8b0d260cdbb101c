"""What processes that train together agree on. One process alone agrees with itself and talks to nobody."""

from collections.abc import Iterable

import torch
from torch import nn

from tuplet.engine import Processes
from tuplet.engine.gather import sum_of
from tuplet.errors import RecipeError

OVER_THE_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def share(rows: int, processes: Processes, together: int = 1) -> slice:
    """The rows of a batch or a data set that are this process's.

    Args:
        rows: How many there are; a multiple of `together`.
        processes: Who shares them.
        together: So many neighbouring rows stay together; shares differ by so many at most.
    """
    each, rest = divmod(rows // together, processes.size)
    begin = each * processes.rank + min(processes.rank, rest)
    return slice(begin * together, (begin + each + (processes.rank < rest)) * together)


def agreed(number: float, processes: Processes) -> float:
    """The number that the first process has; the others wait for it."""
    mine = torch.tensor(number if processes.rank == 0 else 0.0, dtype=torch.float64)
    return float(sum_of(mine, processes))


def anyone(is_wanted: bool, processes: Processes) -> bool:
    """Whether one of the processes wants it."""
    return is_wanted if processes.size == 1 else bool(sum_of(torch.tensor(int(is_wanted)), processes))


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """What DistributedDataParallel does, in one exchange; the loss has already taken its share of it into account."""
    if processes.size == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    flat = sum_of(torch.cat([gradient.flatten() for gradient in gradients]), processes) / processes.size
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def find_batch_norm(encoder: nn.Module) -> str | None:
    """Name of the first layer that normalises over the batch."""
    return next((name for name, part in encoder.named_modules() if isinstance(part, OVER_THE_BATCH)), None)


def refuse_batch_of_one(encoder: nn.Module, batch_size: int) -> None:
    """One example has no spread to be normalised by.

    Raises:
        RecipeError: If the encoder normalises over a batch that holds one example.
    """
    found = find_batch_norm(encoder) if batch_size == 1 else None
    if found is not None:
        raise RecipeError(
            f"The encoder's layer {found} normalises over the batch, which holds one example.",
            hint="Type --set batch.batch_size=NUMBER with 2 or more, or --set model.encoder.norm=group "
            '("layer" for the encoder mlp).',
            reference="batch-norm-of-one",
        )
