"""Gradients that were accumulated in forward: multiplied in the first backward, explained in the second."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tuplet.errors import TupletError


def multiplied(saved: Sequence[Tensor | None], grad: Tensor, *, in_place: bool = True) -> list[Tensor | None]:
    """Inputs and their accumulated gradients, in this order and one after the other -> gradients times `grad`.

    The inputs are there so that asking for a second derivative is noticed and not answered with a wrong number.

    Args:
        saved: See above.
        grad: Without shape.
        in_place: True if the gradients are nobody else's.
    """
    half = len(saved) // 2
    if in_place and not will_come_back():
        with torch.no_grad():  # nobody comes back for them: no second copy of what may be as large as a class head
            return [None if found is None else found.mul_(grad) for found in saved[half:]]
    inputs = [x for x in saved[:half] if x is not None]
    return [
        None if found is None else _Once.apply(found, grad, *inputs)  # type: ignore[no-untyped-call]
        for found in saved[half:]
    ]


def will_come_back() -> bool:
    """Whether the backward pass that is under way keeps its graph, so that there may be another one."""
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())  # noqa: SLF001  # as compiled code asks


def refuse_transforms() -> None:
    """Refuse `torch.func.grad`, `vmap` and their like, which cannot see into a pass.

    Raises:
        TupletError: Inside such a transform.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:  # noqa: SLF001  # torch has no other name for it
        raise TupletError(
            "A streamed loss was called inside torch.func.grad, vmap or another transform of torch.func.",
            hint="Call loss.backward(), or torch.autograd.grad, outside of the transform; tuplet.engine.reference, the "
            "same numbers from the whole matrix, can be transformed.",
            reference="function-transform",
        )


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found: Tensor, grad: Tensor, *inputs: Tensor) -> Tensor:
        del ctx, inputs
        return found * grad

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        del ctx, grad
        raise TupletError(
            "The second derivative of a streamed loss was asked for; only the first is accumulated.",
            hint="Use tuplet.engine.reference in place of stream: the same numbers from the whole matrix, by autograd.",
            reference="double-backward",
        )
