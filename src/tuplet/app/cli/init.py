"""`tuplet init`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from tuplet.app.cli.options import Json, SkipBroken, with_skip_broken
from tuplet.app.cli.show import remark, to_json

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
        bool, typer.Option(help="Of pictures, train some steps with and without mirroring to tell what it does.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Look at data and write a recipe for it, with the reasons.

    The recipe is short and meant to be edited; `tuplet plan` tells what it will take. Of up to 5,000 pictures a short
    training, thrown away, tells what mirroring does to validation; nothing else is trained.
    """
    path = output or Path(f"{data.resolve().stem}.toml")
    if path.exists() and not force:
        raise typer.BadParameter(f"{path} is there already. Type --force to write over it, or -o for another name.")
    from tuplet.app.described import told
    from tuplet.recipes import propose, tell_mirroring
    from tuplet.storage import write_file

    made = propose(data, with_skip_broken(changes, skip_broken=skip_broken))
    if measure and made.kind == "image":
        remark("Measuring what mirroring does (--no-measure leaves that out) ...")
        with TemporaryDirectory() as scratch:
            tell_mirroring(made, Path(scratch))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, _head(path) + made.text(path.resolve().parent))
    if made.manifest is not None:
        remark(told(made.manifest))
    if as_json:
        reasons = {".".join(heading): reason for heading, reason in made.reasons.items()}
        print(to_json({"recipe": str(path), "kind": made.kind, "preset": made.preset, "reasons": reasons}))
        return
    for reason in made.reasons.values():
        remark(reason)
    remark(f"\nNext:\n  tuplet plan {path}\n  tuplet train {path}")
    print(path)


def _head(path: Path) -> str:
    return (
        f"# Proposed by `tuplet init`; every line may be changed. What a setting means: docs/reference/settings.md\n"
        f"#   tuplet plan {path.name}      what it will take, and what may be wrong\n"
        f"#   tuplet train {path.name}\n"
    )
