"""What a call asks of the machine: operators that are dispatched, and values that the host reads back.

On an accelerator a read waits for everything that was launched before it. Operators that look at a tensor in another
way, or ask for room, launch nothing there.
"""

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
"""Operators whose result, or the shape of it, the host has to know."""
MOST_READS = 1
"""Host reads of a call."""
MOST_LAUNCHES = 300
"""Operators of a value and gradient that launch something, without a compiler: 5 to 10 microseconds each."""
QUIET = {"empty", "empty_like", "empty_strided", "lift_fresh", "new_empty", "new_empty_strided", "promote_types"}
"""Operators that launch nothing, beside views."""
COPIES = {Tensor.tolist: "tolist", Tensor.numpy: "numpy", Tensor.cpu: "cpu"}


class Trace(TorchDispatchMode):
    """Counts between `with` and its end; backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0
        self.launches = 0
        self.reads: Counter[str] = Counter()
        self._copies = _Copies(self.reads)

    def counts(self) -> dict[str, int]:
        """How many reads, operators and launches there were."""
        return {"reads": self.reads.total(), "operators": self.operators, "launches": self.launches}

    def __enter__(self) -> Self:
        self._copies.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._copies.__exit__(kind, error, trace)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        name = func.overloadpacket.__name__
        self.launches += not (_is_view(func) or name in QUIET)
        if name in READS or (name == "repeat_interleave" and func is torch.ops.aten.repeat_interleave.Tensor):
            self.reads[name] += 1
        elif name in ("index", "index_put", "index_put_") and _by_mask(args[1]):
            self.reads[f"{name} by a mask"] += 1
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    """Copies to the host that never reach the dispatcher where the tensor is there already."""

    def __init__(self, reads: Counter[str]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := COPIES.get(func)) is not None:
            self.reads[name] += 1
        return func(*args, **(kwargs or {}))


def _is_view(func: Any) -> bool:
    """Whether what is returned is the memory that was given, as it was."""
    found = [each.alias_info for each in func._schema.returns]  # noqa: SLF001  # torch has no other name for it
    return bool(found) and all(alias is not None and not alias.is_write for alias in found)


def _by_mask(indices: Any) -> bool:
    return any(isinstance(x, Tensor) and x.dtype == torch.bool for x in indices)


def traced(run: Callable[[], object]) -> Trace:
    """The counts of one call."""
    with Trace() as trace:
        run()
    return trace
