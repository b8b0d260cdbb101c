"""`tuplet search`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Json
from tuplet.app.cli.show import show_rows

EPILOG = """
\b
Examples:
  tuplet search runs/photos new.jpg                  the ten nearest
  tuplet search runs/photos new/ --top 1 --json      a folder of images
  tuplet search runs/wine samples.csv                every row of a table
  ls new/*.jpg | tuplet search runs/photos -
"""


def search(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of an index.")],
    queries: Annotated[
        list[str], typer.Argument(metavar="QUERY", help="Files, tables, texts; `-` reads one per line.")
    ],
    top: Annotated[int, typer.Option("--top", "-k", min=1, metavar="N", help="Hits per query.")] = 10,
    as_json: Json = False,
) -> None:
    """Find what is nearest in a run, or in an index."""
    from tuplet import index
    from tuplet.app.queries import read_queries

    found = index.open(run)
    items, names = read_queries(found.embedder, queries)
    hits = found.search(found.embedder.embed(items), top, names=names)
    labels = [
        found.items[position].get("label") for row in hits.positions.tolist() for position in row if position >= 0
    ]
    rows = [{**row, "label": label} for row, label in zip(hits.rows(), labels, strict=True)]
    columns = ["query", "rank", "id", "label", "score"] if any(labels) else ["query", "rank", "id", "score"]
    show_rows(rows, columns, as_json=as_json)
