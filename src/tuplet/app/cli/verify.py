"""`tuplet verify`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Json, Trust
from tuplet.app.cli.show import log, show_rows

EPILOG = """
\b
Examples:
  tuplet verify runs/faces a.jpg b.jpg               same or different, by the usual threshold
  tuplet verify runs/faces a.jpg b.jpg --far 0.001   at most one false accept in a thousand
  tuplet verify runs/faces pairs.csv --json          columns a and b, a pair on each line
  tuplet verify runs/faces a.jpg b.jpg --threshold 0.6
"""


def verify(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, of an index, or of a saved model.")],
    pair: Annotated[
        list[str], typer.Argument(metavar="A B | TABLE", help="Two items, or a table with columns a and b.")
    ],
    far: Annotated[float, typer.Option(min=0.0, max=1.0, metavar="RATE", help="Largest false accept rate.")] = 0.01,
    threshold: Annotated[str | None, typer.Option(metavar="NUMBER", help="A score, instead of --far.")] = None,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Tell whether two items are of one class.

    The answer comes with the error rates that its threshold has on validation classes.
    """
    from tuplet.app.cli.running import device_of
    from tuplet.app.queries import read_pairs, scored
    from tuplet.app.thresholds import threshold_for, threshold_of
    from tuplet.models import Embedder

    embedder = Embedder.load(run / "model" if (run / "model").is_dir() else run, trust=trust).to(device_of(device))
    limit = threshold_for(embedder, far) if threshold is None else threshold_of(embedder, threshold)
    pairs = read_pairs(pair)
    rows = [
        {"a": a, "b": b, "decision": "same" if limit.accepts(score) else "different", "score": score}
        | {"threshold": limit.value, **limit.rates}
        for (a, b), score in zip(pairs, scored(embedder, pairs), strict=True)
    ]
    show_rows(rows, ["a", "b", "decision", "score", "threshold"], as_json=as_json)
    if limit.point is not None:
        found_rates = {name.replace("_", " "): limit.point[name] for name in ("false_accepts", "false_rejects")}
        parts = [
            f"{name} {100 * one['value']:.3g} % ({100 * one['low']:.2g} to {100 * one['high']:.3g} %)"
            for name, one in found_rates.items()
        ]
        log(f"On validation classes this threshold has: {', '.join(parts)}.")
