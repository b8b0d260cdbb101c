"""`tuplet embed`."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuplet.app.cli.options import Device, Json, SkipBroken, Trust
from tuplet.app.cli.show import log, to_json
from tuplet.errors import counted

if TYPE_CHECKING:
    from torch import Tensor

    from tuplet.engine import Processes
    from tuplet.models import Embedder

EPILOG = """
\b
Examples:
  tuplet embed runs/photos new/ -o new.npy           one row per image, names in new.ids.txt
  tuplet embed runs/wine samples.csv --json          one JSON object per row
  torchrun --nproc-per-node 4 -m tuplet embed runs/photos photos/ -o photos.npy
  tuplet embed runs/glosses --side partner - --json  answers, one per line
"""


def embed(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a saved model.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT", help="Files, tables, texts; `-` reads one per line.")],
    side: Annotated[
        Literal["query", "partner"], typer.Option(help="Of a model of pairs: the side that the inputs are on.")
    ] = "query",
    is_unnormalised: Annotated[
        bool, typer.Option("--unnormalised", help="Of a cosine model: leave embeddings as long as they are.")
    ] = False,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Array to write, .npy.")] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Turn files, rows or texts into embeddings.

    Under torchrun each process embeds a part, and the first one writes.

    Those of a model that is compared by cosine have length 1, so that dot product and Euclidean distance rank as the
    cosine does. How they are compared stands in a .json file beside the array.
    """
    if (output is None) == (not as_json):
        raise typer.BadParameter("Say where the embeddings go: -o FILE.npy or --json.")
    if output is not None and output.suffix != ".npy":
        raise typer.BadParameter(f"{output} should end in .npy.", param_hint="--output")
    from torch.nn import functional

    from tuplet.app.cli.running import together
    from tuplet.storage import write_file

    with together() as processes:
        embedder, embeddings, names = _embedded(run, inputs, side, device, processes, skip_broken, trust)
        if processes.rank > 0:
            return
    is_normalised = embedder.geometry == "cosine" and not is_unnormalised
    if is_normalised:
        embeddings = functional.normalize(embeddings, dim=1)
    facts: dict[str, object] = {"geometry": embedder.geometry, "normalised": is_normalised}
    if output is None:
        for name, row in zip(names, embeddings.tolist(), strict=True):
            print(to_json({"id": name, "embedding": row, **facts}))
        return
    ids, beside = output.with_suffix(".ids.txt"), output.with_suffix(".json")
    facts |= {"format": 1, "rows": len(embeddings), "dim": embeddings.shape[1], "ids": ids.name}
    write_file(output, _as_npy(embeddings), shared=True)
    write_file(ids, "".join(f"{name}\n" for name in names), shared=True)
    write_file(beside, json.dumps(facts, indent=2) + "\n", shared=True)
    size = counted(len(embeddings), "embedding", "embeddings")
    log(
        f"{size} of {embeddings.shape[1]} numbers{', each of length 1,' if is_normalised else ''} in {output}, to be "
        f"compared by {embedder.geometry}; their names in {ids}, the geometry in {beside}"
    )


def _embedded(
    run: Path,
    inputs: list[str],
    side: Literal["query", "partner"],
    device: str,
    processes: "Processes",
    skip_broken: bool,
    trust: bool,
) -> "tuple[Embedder, Tensor, list[str]]":
    """The model, the embeddings of all processes' shares, and the names of the items."""
    from tuplet.app.cli.running import after_the_first, device_of
    from tuplet.app.queries import read_queries
    from tuplet.engine.gather import all_gather
    from tuplet.index.collect import share
    from tuplet.models import Embedder

    embedder = Embedder.load(run / "model" if (run / "model").is_dir() else run, trust=trust)
    embedder.to(device_of(device, processes))
    with after_the_first(processes):
        items, names, notes = read_queries(embedder, inputs, side, skip_broken=skip_broken)
    for note in notes if processes.rank == 0 else ():
        log(note)
    return embedder, all_gather(embedder.embed(share(items, processes), side=side), processes), names


def _as_npy(embeddings: "Tensor") -> bytes:
    import numpy as np

    content = io.BytesIO()
    np.save(content, embeddings.numpy())
    return content.getvalue()
