"""The commands of `tuplet`, put together; nothing heavy is imported before a command runs."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import typer

from tuplet import __version__

COMMANDS = (
    "demo",
    "init",
    "plan",
    "train",
    "compare",
    "evaluate",
    "search",
    "index",
    "verify",
    "audit",
    "serve",
    "embed",
    "export",
    "report",
    "runs",
    "explain",
)
"""Each has a module: a function of its name, or `COMMANDS` of its own and `HELP`; and its `EPILOG` of examples."""

_EXAMPLES = """
\b
Start here:
  tuplet demo                             train on drawn letters, evaluate, write a report
  tuplet train photos/                    train on your images, one folder per class
  tuplet search runs/photos new.jpg       find what looks like it

`tuplet COMMAND --help` shows examples of each command.
"""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tuplet {__version__}")
        raise typer.Exit


def _tuplet(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Deep metric learning: train an embedding, evaluate it on classes it has never seen, search with it."""


def assemble(names: Sequence[str] = COMMANDS) -> Any:
    """The command `tuplet` with some of its commands: one that runs does not need the others."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(epilog=_EXAMPLES)(_tuplet)
    for name in names:
        module = import_module(f"tuplet.app.cli.{name}")
        if hasattr(module, "COMMANDS"):
            app.add_typer(_group(module), name=name)
        else:
            app.command(name, epilog=module.EPILOG)(getattr(module, name))
    command: Any = typer.main.get_command(app)
    command.commands = {name: command.commands[name] for name in names}  # typer lists groups apart
    return command


def _group(module: ModuleType) -> typer.Typer:
    """A command with commands of its own."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=module.HELP, epilog=module.EPILOG)
    for name, function in module.COMMANDS.items():
        group.command(name)(function)
    return group
