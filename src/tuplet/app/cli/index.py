"""`tuplet index`: make, fill, look at and check an index."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuplet.app.cli.options import Device, Json, SkipBroken, Trust
from tuplet.app.cli.show import log, show_rows, to_json
from tuplet.errors import counted

if TYPE_CHECKING:
    from tuplet.data import Manifest
    from tuplet.engine import Processes
    from tuplet.index import Index
    from tuplet.models import Embedder

HELP = """Make, fill and check an index of your own items."""
EPILOG = """
\b
Examples:
  tuplet index build photos.index --model runs/photos photos/
  tuplet index build shop.index --model runs/shop --backend lance --recall 0.98 shop.csv
  tuplet index build shared --model runs/shop --backend postgres --database postgresql://me@host/db shop.csv
  torchrun --nproc-per-node 4 -m tuplet index build photos.index --model runs/photos photos/
  tuplet index add photos.index more/ --prefix more/      embeds only what is new
  tuplet index remove photos.index cat/1.jpg cat/2.jpg
  tuplet index check shop.index --recall 0.98             damage, and recall beside exact search
  tuplet index upgrade photos.index --model runs/better photos/    another model, without a gap in search
  tuplet search photos.index new.jpg
"""

Home = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")]
Collections = Annotated[
    list[Path], typer.Argument(metavar="COLLECTION", help="Folders of images, tables, arrays, text files; images.")
]
Prefix = Annotated[str, typer.Option(metavar="NAME/", help="Prefix for the names of items.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace items of the same name.")]
Recall = Annotated[
    float | None, typer.Option(min=0.01, max=1.0, metavar="SHARE", help="Share of the exact neighbours to find.")
]
_USUAL_RECALL = 0.95
_GROWN = 1.5
"""How many times as many items as when it was tuned an index may hold before it is tuned again."""


def build(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index; an existing index is extended.")],
    collections: Collections,
    model: Annotated[Path, typer.Option(metavar="RUN", help="Run, or saved model, that embeds.")],
    backend: Annotated[
        Literal["flat", "lance", "postgres"],
        typer.Option(help="flat: exact, one file. lance: approximate, on disk. postgres: many writers."),
    ] = "flat",
    database: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of postgres: postgresql://USER@HOST/DB")
    ] = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="Of postgres: the table.")] = "items",
    recall: Recall = None,
    prefix: Prefix = "",
    replace: Replace = False,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Make an index, with a copy of the model, and fill it.

    Typed again after an interruption it goes on where it stopped. Under torchrun each process embeds a part.
    """
    from tuplet import index as indexes
    from tuplet.app.cli.running import after_the_first, together
    from tuplet.index.writing import CONFIG
    from tuplet.models import Embedder

    if (backend == "postgres") != (database is not None):
        raise typer.BadParameter("--backend postgres needs --database ADDRESS, and no other backend does.")
    with together() as processes:
        with after_the_first(processes):
            if (index / CONFIG).is_file():
                found = _opened(index, model, trust=trust)
                _require_backend(found, backend)
                manifests = _read(found.embedder, collections, processes, skip_broken=skip_broken)
            else:  # what cannot be read leaves no empty index
                options = {"database": database, "table": table} if database else {}
                embedder = Embedder.load(_home(model), trust=trust)
                manifests = _read(embedder, collections, processes, skip_broken=skip_broken)
                found = indexes.create(index, embedder, backend=backend, **options)
        _fill(found, manifests, prefix, replace, recall, device, as_json, processes)


def add(
    index: Home,
    collections: Collections,
    model: Annotated[Path | None, typer.Option(metavar="RUN", help="Refuse unless this model made the index.")] = None,
    recall: Recall = None,
    prefix: Prefix = "",
    replace: Replace = False,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Add what is new; what the index holds already is not embedded again."""
    from tuplet.app.cli.running import after_the_first, together

    with together() as processes:
        with after_the_first(processes):
            found = _opened(index, model, trust=trust)
            manifests = _read(found.embedder, collections, processes, skip_broken=skip_broken)
        _fill(found, manifests, prefix, replace, recall, device, as_json, processes)


def remove(
    index: Home,
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Names of items; `-` reads one per line.")],
) -> None:
    """Remove items by their names."""
    wanted = [line for name in names for line in (sys.stdin.read().splitlines() if name == "-" else [name]) if line]
    found = _opened(index, None)
    removed = found.remove(wanted)
    missing = counted(len(set(wanted)) - removed, "name was", "names were")
    log(f"{counted(removed, 'item', 'items')} removed, {len(found):,} left; {missing} not there.")


def info(index: Home, as_json: Json = False) -> None:
    """What an index holds, by which model, and how near to exact search it answers."""
    from tuplet import index as indexes

    found = indexes.open(index)
    facts = {
        "backend": found.backend,
        "items": len(found),
        "dim": found.dim,
        "geometry": found.geometry,
        "model": found.model_hash,
        "columns": dict(found.columns),
        "recall": dict(found.recall),
    }
    if as_json:
        print(to_json(facts))
        return
    lines = [{"what": name, "value": _plain(value)} for name, value in facts.items()]
    show_rows(lines, ["what", "value"], as_json=False)


def check(index: Home, recall: Recall = None, as_json: Json = False) -> None:
    """Compare everything with its checksums, and measure recall; leaves with 3 where something is damaged.

    With --recall the index is tuned until it finds that share of the exact neighbours of its own items.
    """
    from tuplet import index as indexes
    from tuplet.index.rows import measured_recall

    found = indexes.open(index)
    wrong = found.check()
    reached: dict[str, Any] = {}
    if not wrong and len(found) > 1:
        if recall is not None:
            found.tune(recall)
        reached = {**found.recall, **measured_recall(found, top=10, queries=200, seed=1)}
    if as_json:
        print(to_json({"items": len(found), "damages": wrong, "recall": reached}))
    else:
        for damage in wrong:
            print(damage)
        if reached:
            print(f"recall@{reached['top']} {reached['measured']:.4f} of exact search, over {reached['queries']} items")
    log(f"{counted(len(found), 'item', 'items')}, {counted(len(wrong), 'damage', 'damages')}.")
    if wrong:
        raise typer.Exit(3)


def upgrade(
    index: Home,
    model: Annotated[Path, typer.Option(metavar="RUN", help="Run, or saved model, that takes over.")],
    collections: Annotated[
        list[Path] | None,
        typer.Argument(metavar="COLLECTION", help="What the index was filled from; of texts nothing is needed."),
    ] = None,
    map_only: Annotated[bool, typer.Option("--map-only", help="Stop once queries are answered.")] = False,
    recall: Recall = None,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Give an index another model, without a time in which it cannot be searched.

    First queries of the new model are mapped into the old space, and it says what that costs. Then all items are
    embedded anew, and the index changes over in one step. Typed again after an interruption it goes on.
    """
    from tuplet.app.cli.running import device_of
    from tuplet.app.queries import read_collection
    from tuplet.index.upgrade import Upgraded
    from tuplet.index.upgrade import upgrade as upgrade_index
    from tuplet.models import Embedder

    found = _opened(index, None, trust=trust)
    embedder = Embedder.load(_home(model), trust=trust).to(device_of(device))
    side: Literal["query", "partner"] = "partner" if embedder.partner is not None else "query"
    manifests = [read_collection(embedder, one, side, skip_broken=skip_broken)[0] for one in collections or ()]

    def notice(state: Upgraded) -> None:
        rows = [{**row, "chosen": "yes" if row["chosen"] else ""} for row in state.measured]
        show_rows(rows, ["map", "recall", "class", "class_old", "queries", "chosen"], as_json=as_json)
        log(f"Queries are embedded by {model} now, and mapped ({state.chosen}) until all items are embedded anew.")

    with _bar(str(index)) as progress:
        done = upgrade_index(
            found,
            embedder,
            manifests,
            side=side,
            recall=recall,
            map_only=map_only,
            notice=notice,
            progress=progress,
        )
    if done.is_done:
        log(f"{counted(done.embedded, 'item was', 'items were')} embedded; {index} has the new model.")
    else:
        log("Type it again without --map-only to embed the items anew.")


COMMANDS = {"build": build, "add": add, "remove": remove, "info": info, "check": check, "upgrade": upgrade}


def _home(model: Path) -> Path:
    return model / "model" if (model / "model").is_dir() else model


def _opened(index: Path, model: Path | None, *, trust: bool = False) -> "Index":
    from tuplet import index as indexes
    from tuplet.errors import IndexFormatError
    from tuplet.index.writing import CONFIG, require_model

    if not (index / CONFIG).is_file() and (index / "gallery").is_dir():
        raise IndexFormatError(
            f"{index} is a run; its gallery stays as it was evaluated.",
            hint=f"Make an index of your own: tuplet index build NAME.index --model {index} COLLECTION",
            reference="run-gallery",
        )
    found = indexes.open(index, trust=trust)
    if model is not None:
        require_model(_home(model), found.model_hash)
    return found


def _require_backend(found: "Index", backend: str) -> None:
    if found.backend != backend:
        raise typer.BadParameter(f"{found.folder} exists in {found.backend}, not in {backend}.")


def _side(embedder: "Embedder") -> Literal["query", "partner"]:
    """What items of an index are: the second items of pairs, where a model has an encoder for them."""
    return "query" if embedder.partner is None else "partner"


def _read(
    embedder: "Embedder", collections: list[Path], processes: "Processes", *, skip_broken: bool
) -> "dict[Path, Manifest]":
    """The items of each collection, with a word on what was read as what."""
    from tuplet.app.queries import read_collection

    found = {}
    for collection in collections:
        manifest, notes = read_collection(embedder, collection, _side(embedder), skip_broken=skip_broken)
        for note in notes if processes.rank == 0 else ():
            log(note)
        found[collection] = manifest
    return found


def _fill(
    found: "Index",
    manifests: "dict[Path, Manifest]",
    prefix: str,
    replace: bool,
    recall: float | None,
    device: str,
    as_json: bool,
    processes: "Processes",
) -> None:
    from tuplet import index as indexes
    from tuplet.app.cli.running import device_of

    found.embedder.to(device_of(device, processes))
    rows = []
    for collection, manifest in manifests.items():
        with _bar(str(collection) if processes.rank == 0 else "") as progress:
            added = indexes.add(
                found,
                manifest,
                prefix=prefix,
                replacing=replace,
                side=_side(found.embedder),
                progress=progress,
                processes=processes,
            )
        rows.append({"collection": str(collection), **vars(added)})
    if processes.rank > 0:
        return
    tuned = found.recall
    if found.backend != "flat" and (recall is not None or len(found) > _GROWN * tuned.get("items", 0)):
        found.tune(recall or tuned.get("asked", _USUAL_RECALL))
    show_rows(rows, ["collection", "items", "there", "added", "replaced", "embedded"], as_json=as_json)
    log(f"{found.folder} holds {counted(len(found), 'item', 'items')}.")


@contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """Items done, on a terminal; nothing without a name."""
    if not name or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(compact=True))
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(name, total=None)
        yield lambda done, count: shown.update(task, completed=done, total=count)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {part:.4g}" if isinstance(part, float) else f"{name} {part}" for name, part in value.items()
        )
    return str(value)
