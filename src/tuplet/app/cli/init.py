"""`tuplet init`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tuplet.app.cli.options import Json, SkipBroken, with_skip_broken
from tuplet.app.cli.show import log, to_json

EPILOG = """
\b
Examples:
  tuplet init photos/                                writes photos.toml, a recipe to edit
  tuplet init table.csv -o wine.toml --set data.columns.label=cultivar
"""


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder, table, .npy, .ts or .txt.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Recipe to write; by default DATA.toml here.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Decide one setting.")] = None,
    skip_broken: SkipBroken = False,
    measure: Annotated[
        bool, typer.Option(help="For images, train some steps with and without flipping and report the effect.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing recipe.")] = False,
    as_json: Json = False,
) -> None:
    """Look at data and write a recipe for it, with the reasons.

    The recipe is short and meant to be edited; `tuplet plan` tells what it will take. Of up to 5,000 pictures a short
    training, thrown away, tells what mirroring does to validation; nothing else is trained.
    """
    path = output or Path(f"{data.resolve().stem}.toml")
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} already exists. Use --force to overwrite it, or -o for another name.")
    from tuplet.app.described import describe
    from tuplet.recipes import propose, tell_mirroring
    from tuplet.storage import write_file

    made = propose(data, with_skip_broken(changes, skip_broken=skip_broken))
    if measure and made.kind == "image":
        log("Measuring what mirroring does (--no-measure leaves that out) ...")
        with TemporaryDirectory() as scratch:
            tell_mirroring(made, Path(scratch))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, _head(path) + made.text(path.resolve().parent), shared=True)
    if made.manifest is not None:
        log(describe(made.manifest))
    if as_json:
        reasons = {".".join(heading): reason for heading, reason in made.reasons.items()}
        print(to_json({"recipe": str(path), "kind": made.kind, "preset": made.preset, "reasons": reasons}))
        return
    for reason in made.reasons.values():
        log(reason)
    log(f"\nNext:\n  tuplet plan {path}\n  tuplet train {path}")
    print(path)


def _head(path: Path) -> str:
    return (
        f"# Proposed by `tuplet init`; every line may be changed. What a setting means: docs/reference/settings.md\n"
        f"#   tuplet plan {path.name}      time, memory, and problems in the data\n"
        f"#   tuplet train {path.name}\n"
    )
