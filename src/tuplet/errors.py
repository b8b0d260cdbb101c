"""What can go wrong, and what to do about it.

    TupletError
    ├── ShapeError           tensors that do not fit together                     exit code 3
    │   └── NonFiniteError   ... or that hold NaN or infinity
    ├── LabelError           labels outside their range or of the wrong kind      exit code 3
    ├── DataError            files, tables and splits that cannot be used         exit code 3
    │   ├── MissingFileError ... which are not there
    │   ├── SplitSizeError   ... with too little in a split
    │   └── FolderTakenError ... of a run, in which something else is
    ├── RecipeError          a recipe or a preset that makes no sense             exit code 4
    ├── CheckpointError      a checkpoint or saved model that cannot be read      exit code 3
    ├── IndexFormatError     a search index that cannot be read                   exit code 3
    ├── MissingExtraError    an optional part that is not installed               exit code 5
    └── DivergedError        a training whose numbers stopped being finite        exit code 3

A file that another version of tuplet wrote is an UnknownFormatError: a DataError, CheckpointError and IndexFormatError.
Control flow asks for these classes, never for the text or the id of an error.

Every error says what was found and where (`message`), how to fix it (`hint`),
and names its section of `docs/errors.md` (`reference`), which `tuplet explain` prints.
"""

from typing import ClassVar


def install(extra: str = "") -> str:
    """What installs tuplet, or an extra of it, from where it is published."""
    source = "git+https://github.com/tuplet-dev/tuplet"
    return f'pip install "tuplet[{extra}] @ {source}"' if extra else f'pip install --upgrade "{source}"'


def counted(number: int, one: str, many: str) -> str:
    """A number and the word for it: "1 class", "2 classes"."""
    return f"{number:,} {one if number == 1 else many}"


class TupletError(Exception):
    """Base of all errors that tuplet raises on purpose.

    Args:
        message: What was found, where, and what was expected.
        hint: What to type or change next.
        reference: Kebab-case id of the heading in `docs/errors.md` that explains more.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str, reference: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.reference = reference

    def __str__(self) -> str:
        return "\n".join(filter(None, (self.message, self.hint, f"More: {self.more}")))

    @property
    def more(self) -> str:
        """The command that prints what `docs/errors.md` says about this error."""
        return f"tuplet explain {self.reference}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.reference)


def _rebuild(kind: type[TupletError], message: str, hint: str, reference: str) -> TupletError:
    return kind(message, hint=hint, reference=reference)  # keyword arguments do not survive pickling by themselves


class ShapeError(TupletError):
    """Tensors whose shapes or types do not fit together."""

    exit_code = 3


class NonFiniteError(ShapeError):
    """Tensors that hold NaN or infinity."""


class LabelError(TupletError):
    """Labels outside their range or of the wrong kind."""

    exit_code = 3


class DataError(TupletError):
    """Files, tables and splits that cannot be used."""

    exit_code = 3


class MissingFileError(DataError):
    """Files that are not there."""


class SplitSizeError(DataError):
    """Splits that hold too little to learn from or to evaluate on."""


class FolderTakenError(DataError):
    """The folder of a run in which something else is, or somebody else writes."""


class RecipeError(TupletError):
    """A recipe or a preset that makes no sense."""

    exit_code = 4


class CheckpointError(TupletError):
    """A checkpoint or saved model that cannot be read."""

    exit_code = 3


class IndexFormatError(TupletError):
    """A search index that cannot be read."""

    exit_code = 3


class UnknownFormatError(DataError, CheckpointError, IndexFormatError):
    """A file that another version of tuplet wrote, whatever it holds."""


class MissingExtraError(TupletError):
    """An optional part that is not installed.

    Args:
        message: What needs it.
        extra: The extra of tuplet that brings it.
        otherwise: What else could be done, as the end of the sentence.
        package: What brings it, where no extra does.
    """

    exit_code = 5

    def __init__(self, message: str, *, extra: str = "", otherwise: str = "", package: str = "") -> None:
        typed = f"pip install {package}" if package else install(extra)
        super().__init__(message, hint=f"Type: {typed}{otherwise}", reference="missing-extra")


class DivergedError(TupletError):
    """A training whose numbers stopped being finite."""

    exit_code = 3
