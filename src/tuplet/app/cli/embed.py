"""`tuplet embed`."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuplet.app.cli.options import Json, SkipBroken, Trust
from tuplet.app.cli.show import remark, to_json
from tuplet.errors import counted

if TYPE_CHECKING:
    from torch import Tensor

EPILOG = """
\b
Examples:
  tuplet embed runs/photos new/ -o new.npy           one row per image, names in new.ids.txt
  tuplet embed runs/wine samples.csv --json          one JSON object per row
  tuplet embed runs/glosses --side partner - --json  answers, one per line
"""


def embed(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a saved model.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, tables, texts; `-` reads one per line.")],
    side: Annotated[
        Literal["query", "partner"], typer.Option(help="Of a model of pairs: the side that the inputs are on.")
    ] = "query",
    skip_broken: SkipBroken = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Array to write, .npy.")] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Turn files, rows or texts into embeddings."""
    if (output is None) == (not as_json):
        raise typer.BadParameter("Say where the embeddings go: -o FILE.npy or --json.")
    if output is not None and output.suffix != ".npy":
        raise typer.BadParameter(f"{output} should end in .npy.", param_hint="--output")
    from tuplet.app.queries import read_queries
    from tuplet.models import Embedder
    from tuplet.training.checkpoint import write_file

    embedder = Embedder.load(run / "model" if (run / "model").is_dir() else run, trust=trust)
    items, names, remarks = read_queries(embedder, inputs, side, skip_broken=skip_broken)
    for told in remarks:
        remark(told)
    embeddings = embedder.embed(items, side=side)
    if output is None:
        for name, row in zip(names, embeddings.tolist(), strict=True):
            print(to_json({"id": name, "embedding": row}))
        return
    ids = output.with_suffix(".ids.txt")
    write_file(output, _as_npy(embeddings))
    write_file(ids, "".join(f"{name}\n" for name in names))
    told = counted(len(embeddings), "embedding", "embeddings")
    remark(f"{told} of length {embeddings.shape[1]} in {output}, their names in {ids}")


def _as_npy(embeddings: "Tensor") -> bytes:
    import numpy as np

    content = io.BytesIO()
    np.save(content, embeddings.numpy())
    return content.getvalue()
