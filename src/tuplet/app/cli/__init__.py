"""The command `tuplet`: where errors become messages and exit codes.

0 done · 1 a bug · 2 wrong usage · 3 bad data · 4 bad recipe · 5 missing optional part · 6 a required quality not met
· 130 interrupted.
"""

import errno
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from tuplet import __version__
from tuplet.app.explanations import explanations
from tuplet.errors import DataError, MissingExtraError, TupletError

_EXTRAS = {
    "jinja2": "app",
    "openTSNE": "app",
    "PIL": "app",
    "plotly": "app",
    "pyarrow": "app",
    "pydantic": "app",
    "rich": "app",
    "scipy": "app",
    "sklearn": "app",
    "typer": "app",
    "optuna": "compare",
    "matplotlib": "demo",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
}
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
HELP = Path(__file__).with_name("help.txt")
"""`tuplet --help` on 80 columns, written by `docs/generate.py`: most of its time would go into importing typer."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    code = 0
    signal.signal(signal.SIGTERM, _interrupt)  # schedulers and containers end a process by it: as Ctrl-C does
    try:
        _run()
    except Exception as error:  # noqa: BLE001  whatever it is, nobody shall be scared by a traceback
        code = _settle(error)
    except KeyboardInterrupt:
        code = 130
    except SystemExit as leaving:  # of typer, and always with a number
        code = int(leaving.code or 0)
    finally:
        leave_undisturbed()
        _let_go_of_closed_pipes()
    if is_one_of_several():
        os._exit(code)
    sys.exit(code)


def leave_undisturbed() -> None:
    """From now on Ctrl-C does nothing: what is left to do takes a moment, and nothing more would be saved or lost."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def is_one_of_several() -> bool:
    """Whether `torchrun` started this process.

    What gloo leaves behind at times aborts an interpreter that tidies up, and torchrun then ends the other processes:
    the first one, which evaluates and reports when the rest is done, would not come to its end.
    """
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_torchelastic_launched()


def _run() -> None:
    if sys.argv[1:2] == ["explain"] and (text := explanations().get(" ".join(sys.argv[2:]))):
        print(text)  # without typer too: the error that says that it is missing ends with this command
        return
    if find_spec("typer") is None:
        raise ModuleNotFoundError(name="typer")
    try:
        if sys.argv[1:] in (["--help"], ["-h"]) and not _is_narrow():
            sys.stdout.write(HELP.read_text(encoding="utf-8"))
            return
        from tuplet.app.cli.commands import COMMANDS, assemble

        typed = sys.argv[1:2]
        assemble(typed if typed and typed[0] in COMMANDS else COMMANDS)(prog_name="tuplet")
    finally:
        sys.stdout.flush()


def _is_narrow() -> bool:
    try:
        return os.get_terminal_size().columns < 80
    except OSError:  # no terminal
        return False


def _settle(error: Exception) -> int:
    """Tell the person what went wrong; the exit code."""
    missing = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if isinstance(error, TupletError):
        return _explain(error)
    if isinstance(error, BrokenPipeError):
        return 0  # the reader, `head` say, has seen enough
    if isinstance(error, OSError) and error.errno:
        return _explain(_from_system(error))
    if missing in _EXTRAS:
        return _explain(_missing(missing))
    return _save_traceback(error)


def _explain(error: TupletError) -> int:
    from tuplet.app.cli.show import visible

    print(visible(f"error: {error.message}"), file=sys.stderr)
    if error.hint:
        print(visible(f"hint: {error.hint}"), file=sys.stderr)
    print(f"more: {error.more}", file=sys.stderr)
    return error.exit_code


def _from_system(error: OSError) -> TupletError:
    place = f" ({error.filename})" if error.filename else ""
    message = f"Operating system error: {error.strerror}{place}."
    if error.errno in _DISK:
        return DataError(message, hint="Free some disk space and run the same command again.", reference="disk-full")
    if error.errno in _REFUSED:
        return DataError(message, hint="Choose a folder you may write to and read from.", reference="no-permission")
    return DataError(message, hint="Check the path and run the command again.", reference="system-refused")


def _missing(module: str) -> TupletError:
    return MissingExtraError(
        f"This command needs the package {module}, which is not installed.",
        extra=_EXTRAS[module],
    )


def _save_traceback(error: Exception) -> int:
    import platform
    import tempfile
    import traceback

    versions = f"tuplet {__version__}, Python {platform.python_version()}, {platform.platform()}"
    text = f"{versions}\ntuplet {' '.join(sys.argv[1:])}\n\n{traceback.format_exc()}"
    with tempfile.NamedTemporaryFile("w", prefix="tuplet-bug-", suffix=".txt", delete=False, encoding="utf-8") as file:
        file.write(text)
    from tuplet.app.cli.show import visible

    print(visible(f"error: tuplet has a bug: {type(error).__name__}: {error}"), file=sys.stderr)
    print(f"hint: The traceback is in {Path(file.name)}. Please send it along when you report this.", file=sys.stderr)
    return 1


def _let_go_of_closed_pipes() -> None:
    """Keep the interpreter from complaining at exit about output that nobody reads any more."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
