"""The one module that knows about several processes.

Each process owns its anchors and needs everybody's references. Losses and counts are summed over all processes and
divided once; gradients of references are summed back to their owner. The backward pass multiplies by the number of
processes, because DistributedDataParallel divides by it: what an encoder's parameters receive is then the gradient of
one process with all data.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Processes:
    """Who works on a batch together.

    Args:
        rank: Which of the processes this is.
        size: How many there are.
        group: Their process group; None if there is only one process.
    """

    rank: int = 0
    size: int = 1
    group: Any = None

    @staticmethod
    def default() -> "Processes":
        """The default process group, or one process if none was started."""
        if not (dist.is_available() and dist.is_initialized()):
            return SINGLE_PROCESS
        return Processes(dist.get_rank(), dist.get_world_size(), dist.group.WORLD)


SINGLE_PROCESS = Processes()


def place_of(x: Tensor, processes: Processes) -> torch.device:
    """Where a tensor lies while the processes exchange it: some backends know accelerators alone."""
    known = [entry.partition(":")[0] for entry in dist.get_backend_config(processes.group).split(",")]
    return x.device if x.device.type in known else torch.device(known[0])


def counts(rows: int, processes: Processes, device: torch.device | str = "cpu") -> list[int]:
    """How many rows each process holds."""
    if processes.size == 1:
        return [rows]
    mine = torch.tensor([rows], dtype=torch.int64, device=device)
    mine = mine.to(place_of(mine, processes))
    everyone = [torch.empty_like(mine) for _ in range(processes.size)]
    dist.all_gather(everyone, mine, group=processes.group)
    return [int(count) for count in torch.cat(everyone)]


def gather(x: Tensor, processes: Processes, *, factor: float = 1.0) -> Tensor:
    """Rows of all processes in the order of their ranks; the gradient is summed back to the owner.

    Args:
        x: (rows, ...); processes may hold different numbers of rows.
        processes: Who takes part.
        factor: Multiplies the gradient: the number of processes if each computes the whole loss by itself, see the top
            of this file; 1 if `reduce_sum` does so.

    Returns:
        (rows of all, ...).
    """
    return x if processes.size == 1 else _Gather.apply(x, processes, factor)  # type: ignore[no-untyped-call]


def all_gather(x: Tensor, processes: Processes) -> Tensor:
    """Like `gather` for constants such as labels: nothing flows back."""
    return x if processes.size == 1 else _rows_of_all(x.detach(), processes)[0]


def reduce_sum(total: Tensor, processes: Processes, *, factor: float | None = None) -> Tensor:
    """Sum over processes; backward multiplies by `factor`, by default their number (see the top of this file)."""
    factor = processes.size if factor is None else factor
    return total if processes.size == 1 else _ReduceSum.apply(total, processes, factor)  # type: ignore[no-untyped-call]


def all_reduce_sum(x: Tensor, processes: Processes) -> Tensor:
    """Sum over processes of a constant."""
    if processes.size == 1:
        return x
    met = x.detach().to(place_of(x, processes), copy=True)
    dist.all_reduce(met, group=processes.group)
    return met.to(x.device)


def all_reduce_max(x: Tensor, processes: Processes) -> Tensor:
    """Maximum over processes of a constant, entry by entry."""
    if processes.size == 1:
        return x
    met = x.detach().to(place_of(x, processes), copy=True)
    dist.all_reduce(met, dist.ReduceOp.MAX, group=processes.group)
    return met.to(x.device)


def shared(parameter: Tensor, processes: Processes) -> Tensor:
    """A parameter that every process holds in full; its gradient is averaged, so that all get the same.

    Together with `reduce_sum` this gives each process the gradient of one process with all data, and it stays right if
    DistributedDataParallel averages the equal gradients once more.
    """
    return parameter if processes.size == 1 else _Shared.apply(parameter, processes)  # type: ignore[no-untyped-call]


def first_row(rows: int, processes: Processes, device: torch.device | str = "cpu") -> int:
    """Position of this process's first row among the rows of all."""
    return sum(counts(rows, processes, device)[: processes.rank])


def _rows_of_all(x: Tensor, processes: Processes) -> tuple[Tensor, list[int]]:
    rows = counts(len(x), processes, x.device)
    padded = x.new_zeros(max(rows), *x.shape[1:], device=place_of(x, processes))  # gloo aborts on uneven rows
    padded[: len(x)] = x
    everyone = [torch.empty_like(padded) for _ in rows]
    dist.all_gather(everyone, padded.contiguous(), group=processes.group)
    return torch.cat([part[:count] for part, count in zip(everyone, rows, strict=True)]).to(x.device), rows


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes, factor: float) -> Tensor:
        everyone, rows = _rows_of_all(x, processes)
        ctx.processes, ctx.rows, ctx.factor = processes, rows, factor
        return everyone

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad, group=ctx.processes.group)
        begin = sum(ctx.rows[: ctx.processes.rank])
        return grad[begin : begin + ctx.rows[ctx.processes.rank]] * ctx.factor, None, None


class _ReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, total: Tensor, processes: Processes, factor: float) -> Tensor:
        ctx.factor = factor
        return all_reduce_sum(total, processes)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad * ctx.factor, None, None


class _Shared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        grad = grad.contiguous().clone()
        dist.all_reduce(grad, group=ctx.processes.group)
        return grad / ctx.processes.size, None
