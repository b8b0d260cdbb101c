"""A loss as one operator: what `torch.compile` sees of it, since its passes are loops over tiles of their own.

Value and gradients are computed together in forward, as everywhere here; backward multiplies. A module is named in the
graph by a number, since an operator takes tensors and numbers only.
"""

import itertools
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

_modules: "weakref.WeakValueDictionary[int, nn.Module]" = weakref.WeakValueDictionary()
_numbers = itertools.count(1)

_include, _exclude = torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()  # noqa: SLF001
"""How torch dispatches outside of any operator; inside one it leaves out autograd, which the passes need."""


def enlist(module: nn.Module) -> int:
    """A number by which the operator finds a module."""
    number = next(_numbers)
    _modules[number] = module
    return number


def call(number: int, parameters: list[Tensor], embeddings: Tensor, sides: dict[str, Tensor]) -> Tensor:
    """Value of a loss, as one operator of a graph.

    Args:
        number: Of the module, see `enlist`.
        parameters: Of the module, in its order.
        embeddings: (rows, dim).
        sides: Labels and what else is given by keyword, tensors all.
    """
    value, *_ = _loss(embeddings, list(sides.values()), ",".join(sides), parameters, number)
    return value


@torch.library.custom_op("tuplet::loss", mutates_args=())
def _loss(
    embeddings: Tensor, sides: list[Tensor], names: str, parameters: list[Tensor], number: int
) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Value, and its derivatives by embeddings, sides and parameters; one zero for what has none."""
    del parameters  # the module has them; they are inputs so that the graph knows what it depends on
    module: Any = _modules[number]
    x = embeddings.detach().requires_grad_()
    given = [side.detach().requires_grad_(side.is_floating_point()) for side in sides]
    named = dict(zip(names.split(","), given, strict=True)) if sides else {}
    with _disable_current_modes(), torch._C._ForceDispatchKeyGuard(_include, _exclude), torch.enable_grad():  # noqa: SLF001
        value = module.measure(x, named.pop("labels", None), stats=False, **named).value
        leaves = [x, *[side for side in given if side.requires_grad], *module.parameters()]
        found = iter(torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True))
    by_embeddings = next(found).clone()
    by_sides = [next(found).clone() if side.requires_grad else side.new_zeros(1) for side in given]
    return value.detach().clone(), by_embeddings, by_sides, [grad.clone() for grad in found]


@_loss.register_fake
def _(embeddings: Tensor, sides: list[Tensor], names: str, parameters: list[Tensor], number: int) -> Any:
    del names, number
    wide = torch.float32
    for x in (embeddings, *sides, *parameters):
        wide = torch.promote_types(wide, x.dtype) if x.is_floating_point() else wide
    by_sides = [torch.empty_like(side) if side.is_floating_point() else side.new_empty(1) for side in sides]
    value = embeddings.new_empty((), dtype=wide)
    return value, torch.empty_like(embeddings), by_sides, [torch.empty_like(each) for each in parameters]


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.sides = len(inputs[1])
    ctx.save_for_backward(output[1], *output[2], *output[3])


def _multiply(ctx: Any, grad: Tensor, *_: Any) -> Any:
    by_embeddings, *others = ctx.saved_tensors
    times = [grad.to(each.dtype) * each if each.is_floating_point() else None for each in (by_embeddings, *others)]
    return times[0], times[1 : 1 + ctx.sides], None, times[1 + ctx.sides :], None


_loss.register_autograd(_multiply, setup_context=_keep)
