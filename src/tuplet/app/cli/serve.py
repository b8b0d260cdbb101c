"""`tuplet serve`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Pictures, Trust, require_pictures
from tuplet.app.cli.show import log

EPILOG = """
\b
Examples:
  tuplet serve runs/photos                             a page and an API on this machine
  tuplet serve photos.index --pictures photos/         with the pictures of your collection
  tuplet serve runs/photos --host 0.0.0.0 --token-file token       for others, who need the token
  tuplet serve runs/photos runs/better                 both models on one query, side by side
  curl -F picture=@new.jpg http://127.0.0.1:8000/api/search        search from anywhere
"""


def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="INDEX|RUN", help="Folder of an index, or of a run; two are shown side by side."),
    ],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Where to listen; 0 for any.")] = 8000,
    pictures: Pictures = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds what requests must carry; made if it is not there."),
    ] = None,
    max_body: Annotated[int, typer.Option(min=1, metavar="MIB", help="Largest body of a request.")] = 16,
    max_pixels: Annotated[int, typer.Option(min=1, metavar="N", help="Largest picture.")] = 50_000_000,
    max_requests: Annotated[int, typer.Option(min=1, metavar="N", help="Requests answered at once.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Until a request is given up.")] = 30.0,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Search in the browser, and by HTTP: a page and a JSON API.

    Stops at Ctrl-C, when the running requests are answered.
    """
    if len(runs) > 2:
        raise typer.BadParameter("One or two indexes or runs are served.")
    from contextlib import suppress

    from tuplet import index
    from tuplet.app.cli.running import device_of
    from tuplet.app.pictures import folder_of_pictures
    from tuplet.app.web import Served, Settings
    from tuplet.app.web import serve as serve_index
    from tuplet.app.web.settings import read_token

    require_pictures(pictures)
    served = []
    for run in runs:
        found = index.open(run, trust=trust)
        found.query_embedder.to(device_of(device))
        served.append(Served(found, run.resolve().name, pictures or folder_of_pictures(run)))
    token = "" if token_file is None else read_token(token_file)
    settings = Settings(
        host=host,
        port=port,
        token=token,
        max_body=max_body << 20,
        max_pixels=max_pixels,
        max_requests=max_requests,
        timeout=timeout,
    )

    def ready(address: str) -> None:
        print(address, flush=True)
        log(f"{', '.join(one.name for one in served)}: served there. Ctrl-C stops it.")

    with suppress(KeyboardInterrupt):  # it has stopped as it should
        serve_index(served, settings, ready)
