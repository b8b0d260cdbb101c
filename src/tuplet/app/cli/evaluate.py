"""`tuplet evaluate`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Json, Require, SkipBroken, Trust, check_required, parse_required
from tuplet.app.cli.show import log, to_json

EPILOG = """
\b
Examples:
  tuplet evaluate runs/photos                        what the run measured when it ended
  tuplet evaluate runs/photos --data holiday/        its model on other labelled data
  tuplet evaluate runs/photos --require recall@1=0.9 && ./publish
  tuplet evaluate runs/photos --require tar@far=0.01=0.8    same or different
  tuplet evaluate runs/spectra --require spearman=0.9    targets instead of classes
"""


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    data: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Other data to evaluate on, with classes, targets or pairs.")
    ] = None,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    require: Require = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Show what a model is worth, beside the raw input.

    Each number comes with its 95 % interval over classes.
    """
    required = parse_required(require)
    from tuplet.app.cli.show import show_evaluation
    from tuplet.app.summary import read_evaluation

    if data is None:
        evaluation = read_evaluation(run)
    else:
        from tuplet.app.cli.running import device_of
        from tuplet.app.described import describe_facts
        from tuplet.app.evaluating import evaluate_on

        evaluation = evaluate_on(run, data, skip_broken=skip_broken, trust=trust, device=device_of(device))
        log(describe_facts(evaluation.data.model_copy(update={"source": data.name})))
    if as_json:
        print(to_json({**evaluation.to_json(), "conclusion": evaluation.conclusion}))
    else:
        show_evaluation(evaluation, everything=True)
    check_required(required, evaluation)
