"""The run-time type checker of the test run: beartype, but for the few signatures that it cannot read.

Those are methods that return `Self`; `test_architecture.py` sees to it that there are no others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

_AS_MYPY = BeartypeConf(is_pep484_tower=True)  # an int is a float too
UNCHECKED: list[Callable[..., Any]] = []


def check(item: Callable[..., Any]) -> Callable[..., Any]:
    """The function or class with its annotations checked on every call."""
    try:
        return beartype(item, conf=_AS_MYPY)
    except BeartypeDecorHintException:
        UNCHECKED.append(item)
        return item


@contextmanager
def unchecked() -> Iterator[None]:
    """Calls inside reach the library's own checks, as a user's calls do."""
    jaxtyping.config.update("jaxtyping_disable", True)  # noqa: FBT003  its signature
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)  # noqa: FBT003
