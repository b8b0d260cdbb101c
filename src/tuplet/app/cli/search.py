"""`tuplet search`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuplet.app.cli.options import Device, Json, Pictures, SkipBroken, Trust, require_pictures
from tuplet.app.cli.show import log, show_rows

if TYPE_CHECKING:
    from tuplet.index import Hits

EPILOG = """
\b
Examples:
  tuplet search runs/photos new.jpg                  the ten nearest
  tuplet search runs/photos new/ --top 1 --json      a folder of images
  tuplet search runs/wine samples.csv                every row of a table
  tuplet search shop.index --text "red shoes" --where "brand = 'x' AND price < 50"
  tuplet search runs/photos new.jpg --threshold auto       only hits above the threshold
  tuplet search shop.index new.jpg --pictures shop/  with pictures of the hits, in a terminal that has colours
  ls new/*.jpg | tuplet search runs/photos -
"""


def search(
    run: Annotated[Path, typer.Argument(metavar="INDEX|RUN", help="Folder of an index, or of a run.")],
    queries: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="Files, tables, texts; `-` reads one per line.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="TEXT", help="A text, whatever it looks like; may be repeated."),
    ] = None,
    vector: Annotated[
        list[str] | None,
        typer.Option("--vector", metavar="NUMBERS", help="An embedding: 0.1,0.2,... or a .npy of rows."),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="FILTER", help="Search only some items: \"brand = 'x' AND price < 5\"."),
    ] = None,
    top: Annotated[int, typer.Option("--top", "-k", min=1, metavar="N", help="Hits per query.")] = 10,
    threshold: Annotated[
        str | None, typer.Option(metavar="auto|NUMBER", help="Drop hits below the similarity threshold.")
    ] = None,
    pictures: Pictures = None,
    no_pictures: Annotated[bool, typer.Option("--no-pictures", help="Show no pictures.")] = False,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Find what is nearest in a run, or in an index."""
    from tuplet import index
    from tuplet.app.cli.running import device_of
    from tuplet.app.queries import embedded_queries
    from tuplet.app.thresholds import threshold_of

    require_pictures(pictures)
    found = index.open(run, trust=trust)
    embedder = found.query_embedder.to(device_of(device))
    limit = None if threshold is None else threshold_of(embedder, threshold)
    vectors, names, notes = embedded_queries(
        embedder, queries or (), texts=text or (), vectors=vector or (), skip_broken=skip_broken
    )
    for note in notes:
        log(note)
    hits = found.search(vectors, top, names=names, where=where)
    rows = _rows(hits)
    near = [row for row in rows if limit is None or limit.accepts(row["score"])]
    extra = dict.fromkeys(name for row in near for name in row if name not in ("query", "rank", "id", "score"))
    shown = [name for name in ("label", "text", "split", *extra) if any(row.get(name) for row in near)]
    show_rows(near, ["query", "rank", "id", *dict.fromkeys(shown), "score"], as_json=as_json)
    if sys.stdout.isatty() and not (as_json or no_pictures):
        from tuplet.app.cli.thumbnails import show_pictures

        show_pictures(found, pictures, hits, lambda score: limit is None or limit.accepts(score), texts=text or ())
    if not len(found):
        log(f"{run} holds no items; add some: tuplet index add {run} COLLECTION")
    if limit is not None:
        log(f"{len(near)} of {len(rows)} hits reach the threshold {limit.value:.4g}.")


def _rows(hits: "Hits") -> list[dict[str, Any]]:
    """Hits with what is known of them."""
    facts = [fact for facts in hits.facts for fact in facts]
    return [
        {**row, "label": None, **{name: value for name, value in fact.items() if name not in ("id", "target")}}
        for row, fact in zip(hits.rows(), facts, strict=True)
    ]
