"""Batch normalisation over a batch that several processes share: over all of its rows, not over each one's own."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tuplet.engine import Processes
from tuplet.engine.gather import all_reduce_sum
from tuplet.training.distributed import OVER_THE_BATCH


class SynchronisedBatchNorm(_BatchNorm):
    r"""Takes the place of a batch normalisation, whose weights and running statistics it shares.

    $$y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta$$

    with mean and variance over the examples, and places, of all processes. torch's `SyncBatchNorm` works on
    accelerators only.

    Args:
        twin: The layer to replace.
        processes: Who shares each batch.

    References:
        Ioffe, Szegedy, "Batch Normalization", 2015, algorithm 1.
    """

    processes: Processes

    def __init__(self, twin: _BatchNorm, processes: Processes) -> None:
        nn.Module.__init__(self)
        self.__dict__.update({**twin.__dict__, "processes": processes})

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's name for it
        """Any number of places after examples and channels."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name for it
        """Normalised by the batch in training, by the running statistics else, as the layer it replaces would."""
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        rows = all_reduce_sum(x.new_tensor([x.numel() / max(1, x.shape[1])], dtype=torch.float64), self.processes).to(x)
        mean = _Total.apply(x.sum(axes), self.processes) / rows  # type: ignore[no-untyped-call]
        apart = x - mean.view(shape)
        variance = _Total.apply(apart.square().sum(axes), self.processes) / rows  # type: ignore[no-untyped-call]
        if self.training:
            self._follow(mean.detach(), variance.detach() * (rows / (rows - 1)))
        scale = torch.rsqrt(variance + self.eps)
        result = apart * (scale if self.weight is None else scale * self.weight).view(shape)
        return (result if self.bias is None else result + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, as torch does."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        self.running_var.lerp_(variance.to(self.running_var), share)


class _Total(torch.autograd.Function):
    """Sum over processes; each one's gradient goes to the rows of all."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes  # type: ignore[attr-defined]  # as in every function of autograd
        return all_reduce_sum(x, processes)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return all_reduce_sum(grad.contiguous(), ctx.processes), None  # type: ignore[attr-defined]


def synchronise(module: nn.Module, processes: Processes) -> None:
    """Let every batch normalisation within a module, in place, take the rows of all processes."""
    if processes.size == 1:
        return
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, OVER_THE_BATCH):
                setattr(parent, name, SynchronisedBatchNorm(child, processes))
