"""The run-time type checker of the test run: beartype, but for the few signatures that it cannot read.

Those are methods that return `Self`; `test_architecture.py` sees to it that there are no others.

`jaxtyping.jaxtyped` binds the arguments of each call and checks them twice, for the sake of shapes that two annotations
have in common. Nine of ten functions name no shape: `jaxtyped` here leaves them to beartype alone, which checks the
same in a third of the time.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.roar import BeartypeDecorHintException

_AS_MYPY = BeartypeConf(is_pep484_tower=True)  # an int is a float too
_jaxtyped = jaxtyping.jaxtyped
UNCHECKED: list[Callable[..., Any]] = []


def jaxtyped(*, typechecker: Callable[..., Any]) -> Callable[..., Any]:
    """The decorator that jaxtyping's import hook puts on every function, property and class of the package."""
    return functools.partial(_decorated, _jaxtyped(typechecker=typechecker))


def _decorated(by_jaxtyping: Callable[..., Any], item: Any) -> Any:
    if isinstance(item, property):
        return property(*(part and _decorated(by_jaxtyping, part) for part in (item.fget, item.fset, item.fdel)))
    if isinstance(item, classmethod | staticmethod):
        return type(item)(_decorated(by_jaxtyping, item.__func__))
    if not inspect.isfunction(item) or any(map(_names_shapes, item.__annotations__.values())):
        return by_jaxtyping(item)
    return _typed(item) or by_jaxtyping(item)


def _names_shapes(annotation: Any) -> bool:
    """Whether it is, or holds, the type of a tensor with a shape; text may name anything."""
    if isinstance(annotation, str):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(_names_shapes(part) for part in get_args(annotation) if not isinstance(part, str))


def _typed(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function with its types checked on every call, or nothing where beartype cannot read them."""
    try:
        typed = beartype(function, conf=_AS_MYPY)
    except BeartypeDecorHintException:
        return None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if jaxtyping.config.jaxtyping_disable else typed)(*args, **kwargs)

    return call


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
