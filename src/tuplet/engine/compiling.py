"""Tile code compiled into kernels, where there is a compiler."""

import logging
from collections.abc import Callable, Hashable
from functools import lru_cache
from types import FunctionType
from typing import Any

import torch

from tuplet.engine.tilecode import Spec

logger = logging.getLogger(__name__)

RECOMPUTED: dict[str, Any] = {
    "realize_reads_threshold": 16,
    "realize_acc_reads_threshold": 16,
    "realize_opcount_threshold": 100,
}
"""Options of the compiler: masks and terms are computed again in each loop over a row, never written to memory."""


@lru_cache(maxsize=1024)
def compiled(function: Callable[..., Any], fixed: Hashable) -> Callable[..., Any]:
    """The same function of tensors, whose first argument is fixed, as one or a few kernels.

    It is compiled once for each class of shapes. Every pair gets a code object of its own, since the compiler counts
    variants by code object.
    """
    options = RECOMPUTED if isinstance(fixed, Spec) else None

    def tile(*given: Any) -> Any:
        return function(fixed, *given)

    name = f"{function.__name__}_{type(getattr(fixed, 'program', fixed)).__name__}"
    own = FunctionType(tile.__code__.replace(co_name=name), globals(), name, None, tile.__closure__)
    return _OrEager(torch.compile(own, fullgraph=True, options=options), tile)


class _OrEager:
    """Compiled code, or the same as it is written where there turns out to be no compiler."""

    missing = False

    def __init__(self, code: Callable[..., Any], plain: Callable[..., Any]) -> None:
        self.code, self.plain = code, plain

    def __call__(self, *given: Any) -> Any:
        from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415  # takes a second, and whoever compiles has it

        if not _OrEager.missing:
            try:
                return self.code(*given)
            except (TorchDynamoException, ImportError) as error:
                _OrEager.missing = True
                logger.warning(
                    "Tile code runs as it is written, which is slower: it cannot be compiled here (%s).", error
                )
        return self.plain(*given)
