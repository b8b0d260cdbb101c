"""`tuplet audit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuplet.app.cli.options import Device, Json, SkipBroken, Trust
from tuplet.app.cli.show import log, to_json

if TYPE_CHECKING:
    from tuplet.app.auditing import Audit

EPILOG = """
\b
Examples:
  tuplet audit runs/photos                           copies, doubtful labels, outliers: a table and a page
  tuplet audit runs/photos --folds 5                 five trainings, each without a fifth of the examples
  tuplet audit runs/photos --folds 0                 at once, by the model that learned the labels
  tuplet audit runs/photos new/                      another collection, by the model of the run
  tuplet audit photos.index                          the items of an index, by their embeddings
  tuplet train photos/ --exclude runs/photos/audit/findings.csv
"""


def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN|INDEX", help="Folder of a run, or of an index.")],
    collection: Annotated[
        Path | None, typer.Argument(metavar="[COLLECTION]", help="Looked at instead, by the same model.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Of a run: trainings without a part of the examples each. [default: 2]"),
    ] = None,
    copies: Annotated[
        float, typer.Option(min=0.5, max=1.0, metavar="COSINE", help="From which two inputs are copies.")
    ] = 0.99,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="By default RUN/audit, or NAME.audit here."),
    ] = None,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Look for copies, wrong labels and outliers in data.

    It is that of a run, of an index, or another collection. Labels are compared with those of the nearest examples; of
    the data of a run by models that were trained without the example in question. The page shows the findings with
    their pictures; what is marked there can be left out of the next training.
    """
    from tuplet.app.report.findings import findings_page
    from tuplet.storage import write_file

    is_index = (run / "index.json").is_file()
    found = _looked_at(run, collection, folds, copies, device, is_index=is_index, skip_broken=skip_broken, trust=trust)
    name = (collection or run).resolve().name
    folder = output or (Path(f"{name}.audit") if collection is not None or is_index else run / "audit")
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "findings.csv", found.table(), shared=True)
    write_file(folder / "findings.html", findings_page(found, name), shared=True)
    numbers = {kind: sum(one.finding == kind for one in found.findings) for kind in ("duplicate", "label", "outlier")}
    if as_json:
        used, dim = found.dimensions
        print(to_json({"folder": str(folder), **numbers, "effective_rank": used, "dim": dim}))
        return
    log(
        f"{numbers['duplicate']:,} copies, {numbers['label']:,} doubtful labels, {numbers['outlier']:,} outliers among "
        f"{found.examples:,} examples: {folder / 'findings.html'}, {folder / 'findings.csv'}"
    )


def _looked_at(
    run: Path,
    collection: Path | None,
    folds: int | None,
    copies: float,
    device: str,
    *,
    is_index: bool,
    skip_broken: bool,
    trust: bool,
) -> "Audit":
    if folds == 1:
        raise typer.BadParameter("--folds 1 would leave nothing to train on; use 2 or more, or 0.")
    if folds and (is_index or collection is not None):
        raise typer.BadParameter("--folds trains the recipe of a run on its own data; leave it out here.")
    from tuplet.app.auditing import audit, audit_collection, audit_index
    from tuplet.app.cli.running import cache_beside, device_of

    if collection is not None:
        from tuplet.app.queries import read_collection
        from tuplet.models import Embedder

        embedder = Embedder.load(run / "model", trust=trust).to(device_of(device))
        manifest, _ = read_collection(embedder, collection, skip_broken=skip_broken)
        return audit_collection(manifest, embedder, least=copies, progress=log)
    if is_index:
        from tuplet import index

        return audit_index(index.open(run, trust=trust), progress=log)
    often, cache = 2 if folds is None else folds, cache_beside(run)
    return audit(run, cache, folds=often, least=copies, device=device_of(device), trust=trust, progress=log)
