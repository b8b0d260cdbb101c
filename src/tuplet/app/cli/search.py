"""`tuplet search`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Json, SkipBroken, Trust
from tuplet.app.cli.show import remark, show_rows

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
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Find what is nearest in a run, or in an index."""
    from tuplet import index
    from tuplet.app.cli.running import device_of
    from tuplet.app.queries import read_queries

    found = index.open(run, trust=trust)
    found.embedder.to(device_of(device))
    items, names, remarks = read_queries(found.embedder, queries, skip_broken=skip_broken)
    for told in remarks:
        remark(told)
    hits = found.search(found.embedder.embed(items), top, names=names)
    rows = [
        {**row, "label": fact.get("label"), **{name: fact[name] for name in ("text", "split") if name in fact}}
        for row, fact in zip(hits.rows(), (fact for facts in hits.facts for fact in facts), strict=True)
    ]
    known = [name for name in ("label", "text", "split") if any(row.get(name) for row in rows)]
    columns = ["query", "rank", "id", *known, "score"]
    show_rows(rows, columns, as_json=as_json)
