"""`tuplet export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tuplet.app.cli.options import Json, Trust
from tuplet.app.cli.show import log, to_json

EPILOG = """
\b
Examples:
  tuplet export runs/photos -o exported/ a.jpg b.jpg      ONNX, checked on two of your images
  tuplet export runs/wine -o exported/ --to torch samples.csv
  python exported/embed.py a.jpg                          runs without tuplet
  tuplet export runs/glosses -o exported/ --to sentence-transformers
"""


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, or of a saved model.")],
    items: Annotated[
        list[str] | None, typer.Argument(metavar="[ITEM]", help="Real items: what is written is run on them.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write.")] = ...,  # type: ignore[assignment]
    to: Annotated[
        Literal["onnx", "torch", "safetensors", "sentence-transformers", "huggingface"],
        typer.Option(help="What to write."),
    ] = "onnx",
    is_unnormalised: Annotated[
        bool, typer.Option("--unnormalised", help="Of a cosine model: leave embeddings as long as they are.")
    ] = False,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Write a model that runs without tuplet.

    The folder holds the network with its preprocessing, `model.json` with geometry and thresholds, and `embed.py`,
    which runs it. What was written is run and compared with the model before it is kept.
    """
    from tuplet.app.exported import export_folder
    from tuplet.models import Embedder

    embedder = Embedder.load(run / "model" if (run / "model").is_dir() else run, trust=trust)
    written = export_folder(embedder, output, to, items or (), unnormalised=is_unnormalised, progress=log)
    if as_json:
        print(to_json({"folder": str(output), "files": written.files, "difference": written.difference}))
        return
    log(f"Wrote {', '.join(written.files)} to {output}; embeddings differ by at most {written.difference:.1g}.")
    if written.checked:
        log(f"Its own program was run on {written.checked} of your items and computes the same.")
    else:
        log("Name some items to check it on real ones.")
