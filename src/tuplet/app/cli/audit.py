"""`tuplet audit`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Json, Trust
from tuplet.app.cli.show import log, to_json

EPILOG = """
\b
Examples:
  tuplet audit runs/photos                           copies, doubtful labels, outliers: a table and a page
  tuplet audit runs/photos --folds 5                 five trainings, each without a fifth of the examples
  tuplet audit runs/photos --folds 0                 at once, by the model that learned the labels
  tuplet train photos/ --exclude runs/photos/audit/findings.csv
"""


def audit(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run; its data is looked at.")],
    folds: Annotated[
        int, typer.Option(min=0, metavar="N", help="Trainings without a part of the examples each; 0 for none.")
    ] = 2,
    copies: Annotated[
        float, typer.Option(min=0.5, max=1.0, metavar="COSINE", help="From which two inputs are copies.")
    ] = 0.99,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="By default RUN/audit.")
    ] = None,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Look for copies, wrong labels and outliers in the data of a run.

    Labels are compared with those of the nearest examples, by models that were trained without the example in question.
    The page shows the findings with their pictures; what is marked there can be left out of the next training.
    """
    if folds == 1:
        raise typer.BadParameter("--folds 1 would leave nothing to train on; use 2 or more, or 0.")
    from tuplet.app.auditing import audit as look
    from tuplet.app.cli.running import cache_beside, device_of
    from tuplet.app.report.findings import findings_page
    from tuplet.storage import write_file

    folder = run / "audit" if output is None else output
    found = look(run, cache_beside(run), folds=folds, least=copies, device=device_of(device), trust=trust, progress=log)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / "findings.csv", found.table(), shared=True)
    write_file(folder / "findings.html", findings_page(found, run.name), shared=True)
    numbers = {kind: sum(one.finding == kind for one in found.findings) for kind in ("duplicate", "label", "outlier")}
    if as_json:
        used, dim = found.dimensions
        print(to_json({"folder": str(folder), **numbers, "effective_rank": used, "dim": dim}))
        return
    log(
        f"{numbers['duplicate']:,} copies, {numbers['label']:,} doubtful labels, {numbers['outlier']:,} outliers among "
        f"{found.examples:,} examples: {folder / 'findings.html'}, {folder / 'findings.csv'}"
    )
