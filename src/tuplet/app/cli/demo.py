"""`tuplet demo`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Json
from tuplet.app.cli.show import log

EPILOG = """
\b
Examples:
  tuplet demo                                        two to three minutes on two cores
  tuplet demo --steps 200                            a quick look
"""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all runs.")] = Path("runs"),
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps to train; by default those of the recipe.")
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train on drawn letters and write a report.

    It learns from half of the characters of 16 typefaces and has to recognise the other half. Nothing is downloaded:
    the letters are drawn from the fonts that come with matplotlib.
    """
    from tuplet.app.cli.running import device_of, new_run, run_and_report, show_run
    from tuplet.engine import SINGLE_PROCESS

    log("Drawing letters and numbers of 16 typefaces ...")
    job, place = new_run("glyphs", out=out, data=None, name=None, steps=steps, changes=["name=demo"])
    evaluation, folder = (
        run_and_report(job, place, resume=False, device=device_of(device, SINGLE_PROCESS)),
        place.folder,
    )
    queries = _save_queries(folder)
    log(f"Searching with three of the letters, now in {queries[0].parent} ...")
    for query, hits in _search(folder, queries):
        log(f"  {query} is most like {', '.join(hits)}")
    if evaluation is not None:
        show_run(folder, evaluation, as_json=as_json)
    log(
        f"\nNext:\n"
        f"  tuplet search {folder} {queries[0]}\n"
        f"  tuplet evaluate {folder}\n"
        f"  tuplet train photos/            your own images, one folder per class"
    )


def _save_queries(run: Path) -> list[Path]:
    """Three pictures of the gallery as files, to search with."""
    from PIL import Image

    from tuplet.app.report.gallery import read_gallery

    gallery = read_gallery(run)
    assert gallery.pictures is not None  # noqa: S101  letters are pictures
    (run / "queries").mkdir(exist_ok=True)
    paths = []
    for position in (len(gallery.ids) * part // 4 for part in (1, 2, 3)):
        paths.append(run / "queries" / f"{gallery.ids[position].replace('/', '-')}.png")
        Image.fromarray(gallery.pictures[position, 0]).save(paths[-1])
    return paths


def _search(run: Path, queries: list[Path]) -> list[tuple[str, list[str]]]:
    """Name of each query, and those of the three nearest others."""
    from tuplet import index

    found = index.open(run)
    hits = found.search(found.embedder.embed(queries), top=4)
    return [(query.stem, list(names[1:])) for query, names in zip(queries, hits.ids, strict=True)]  # itself is nearest
