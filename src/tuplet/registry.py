"""Names of components and the constructors they stand for.

A component of any kind is registered once, beside its definition. Recipes, the command line and the docs read the same
table; the schema of a component's options is derived from its constructor's signature (`recipes.schema`).
"""

import difflib
import inspect
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from tuplet.bounds import bounded
from tuplet.errors import RecipeError, ShapeError

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Constructors of one kind by name.

    Args:
        kind: What the names stand for, as written in messages ("loss", "encoder").
        plugins: Entry point group through which other packages add names.
    """

    def __init__(self, kind: str, plugins: str | None = None) -> None:
        self.kind = kind
        self._plugins = plugins
        self._entries: dict[str, T] = {}
        self._has_loaded = plugins is None

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a constructor under `name`."""

        def file(constructor: T) -> T:
            known = _checked(constructor)
            if self._entries.setdefault(name, known) is not known:
                raise ValueError(f"two {self.kind} constructors are called {name!r}")
            return known

        return file

    def name_of(self, constructor: object) -> str | None:
        """Under which name something of this process was registered; None if it was not."""
        return next((name for name, known in self._entries.items() if known is constructor), None)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._load_plugins()
        if name not in self._entries:
            raise RecipeError(
                f"There is no {self.kind} called {name!r}.",
                hint=did_you_mean(name, self._entries),
                reference="unknown-name",
            )
        return self._entries[name]

    def __contains__(self, name: str) -> bool:
        if name not in self._entries:
            self._load_plugins()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_plugins()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load_plugins()
        return len(self._entries)

    def _load_plugins(self) -> None:
        """Import what other packages add, once; the first of two with one name stays."""
        if self._has_loaded:
            return
        self._has_loaded = True
        for point in entry_points(group=self._plugins or ""):
            self._entries.setdefault(point.name, point.load())


def _checked(constructor: T) -> T:
    """The constructor, whose arguments are checked against the bounds in its signature."""
    if not inspect.isclass(constructor):
        return bounded(constructor)  # type: ignore[return-value]  # of the same signature
    if "__init__" in vars(constructor):
        setattr(constructor, "__init__", bounded(vars(constructor)["__init__"]))  # noqa: B010  # mypy holds methods for constants
    return constructor


def check_choice(value: object, known: tuple[Any, ...], name: str) -> None:
    """Refuse an option that is none of its choices: another spelling would be taken for one of them.

    Args:
        value: What was given.
        known: What may be given.
        name: Of the option.

    Raises:
        ShapeError: See above.
    """
    if value not in known:
        raise ShapeError(
            f"{name} is {value!r}; one of {', '.join(map(repr, known))} is expected.",
            hint=did_you_mean(str(value), [str(each) for each in known]),
            reference="unknown-choice",
        )


def did_you_mean(
    name: str, known: "Iterator[str] | dict[str, Any] | list[str] | Registry[Any]", *, otherwise: str = ""
) -> str:
    """A hint that names the closest known names; if none is close, `otherwise` or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return otherwise or f"Known: {', '.join(names)}."
