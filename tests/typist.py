"""Types commands one after the other, each in a process of its own that finds all modules imported."""

import json
import os
import sys
from pathlib import Path


def serve():
    """Read `{"words", "folder", "said"}` per line; answer with the exit code.

    What a command reads and says is in files of the folder `said`: stdin, stdout, stderr.
    """
    import openTSNE  # noqa: F401, PLC0415
    import sklearn.neighbors  # noqa: F401, PLC0415
    import torch._dynamo  # noqa: F401, PLC0415  the first optimiser imports it

    import tuplet.app.cli.commands  # noqa: PLC0415
    import tuplet.app.cli.running  # noqa: PLC0415
    import tuplet.app.report  # noqa: PLC0415
    import tuplet.recipes  # noqa: F401, PLC0415

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(asked["words"], Path(asked["folder"]), Path(asked["said"]))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()


def _become(words, folder, said):
    """This process is the command from here on."""
    os.chdir(folder)
    for stream, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(os.open(said / name, os.O_RDWR | (os.O_CREAT | os.O_TRUNC if stream else 0)), stream)
    sys.argv = ["tuplet", *words]
    from tuplet.app.cli import main  # noqa: PLC0415

    try:
        main()
    except SystemExit as left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left.code)


if __name__ == "__main__":
    serve()
