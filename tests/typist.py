"""Starts commands, each in a process of its own that finds all modules imported: a start costs no seconds."""

import atexit
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

_STREAMS = ("stdin", "stdout", "stderr")


class Started:
    """A process that the typist started; the part of `subprocess.Popen` that tests need."""

    def __init__(self, pid, ask, place):
        self.pid, self._ask, self._place, self.returncode = pid, ask, place, None

    def poll(self):
        """Its exit code, once it has left."""
        if self.returncode is None:
            self.returncode = self._ask()
        return self.returncode

    def wait(self, timeout=600):
        """Its exit code."""
        end = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        assert self.returncode is not None, f"{self.pid} goes on after {timeout} seconds"
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout=600):
        """All that it said, once it has left."""
        self.wait(timeout)
        return self.said("stdout"), self.said("stderr")

    def said(self, stream):
        """What it has said so far."""
        return (self._place / stream).read_text(encoding="utf-8")

    def lines(self):
        """Lines of its stdout as they come, to the last one."""
        seen = 0
        while True:
            has_left = self.poll() is not None  # asked before looking
            text = self.said("stdout")
            while (end := text.find("\n", seen) + 1) or (has_left and seen < len(text)):
                yield text[seen : end or len(text)]
                seen = end or len(text)
            if has_left:
                return
            time.sleep(0.002)


class Typist:
    """Types `tuplet WORDS`, or `python WORDS` for words that begin so, in a folder.

    Where the system has no fork, each process imports its modules itself.

    Args:
        place: Folder for what the processes say.
    """

    def __init__(self, place):
        self._place, self._count = place, 0
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": {**os.environ, "OMP_NUM_THREADS": "1"}}
        command = [sys.executable, __file__]
        self._server = subprocess.Popen(command, text=True, **pipes) if hasattr(os, "fork") else None

    def __call__(self, words, folder, stdin=""):
        """Type it and wait."""
        process = self.start(words, folder, stdin)
        said = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, *said)

    def start(self, words, folder, stdin=""):
        """Type it."""
        place = self._place / str(self._count)
        self._count += 1
        place.mkdir()
        for name, text in zip(_STREAMS, (stdin, "", ""), strict=True):
            (place / name).write_text(text, encoding="utf-8")
        words = [*map(str, words)]
        if self._server is None:
            command = [sys.executable, *(words[1:] if words[0] == "python" else ["-m", "tuplet", *words])]
            stdin, stdout, stderr = ((place / name).open("r+b") for name in _STREAMS)
            process = subprocess.Popen(command, cwd=folder, stdin=stdin, stdout=stdout, stderr=stderr)
            return Started(process.pid, process.poll, place)
        pid = self._ask(words=words, folder=str(folder), place=str(place))
        return Started(pid, lambda: self._ask(poll=pid), place)

    def close(self):
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()

    def _ask(self, **asked):
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@functools.cache
def shared():
    """The one of this process, which ends with it."""
    place = tempfile.TemporaryDirectory(prefix="typist-")
    found = Typist(Path(place.name))
    atexit.register(place.cleanup)
    atexit.register(found.close)  # before that
    return found


def serve():
    """Answer requests, a line each: the number of a process that was started, or how one has left."""
    import openTSNE  # noqa: F401, PLC0415
    import sklearn.neighbors  # noqa: F401, PLC0415
    import torch._dynamo  # noqa: F401, PLC0415  the first optimiser imports it

    import tuplet.app.cli.running  # noqa: PLC0415
    import tuplet.app.report  # noqa: PLC0415
    import tuplet.recipes  # noqa: F401, PLC0415
    from tuplet.app.cli.commands import assemble  # noqa: PLC0415

    assemble()

    for line in sys.stdin:
        asked = json.loads(line)
        if "poll" in asked:
            left, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if left else None
        else:
            answer = os.fork()
            if answer == 0:
                _become(asked["words"], asked["folder"], Path(asked["place"]))
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _become(words, folder, place):
    """This process is the command from here on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal, wherever the tests were started
    os.chdir(folder)
    for stream, name in enumerate(_STREAMS):
        os.dup2(os.open(place / name, os.O_RDWR), stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  the other one may have read on
    code = 0
    try:
        _run(words)
    except SystemExit as left:
        code = left.code
        if isinstance(code, str):
            sys.stderr.write(f"{code}\n")
    except BaseException:  # noqa: BLE001  what nobody caught
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1 if isinstance(code, str) else code or 0)


def _run(words):
    is_script = words[0] == "python" and words[1] != "-c"
    sys.path.insert(0, str(Path(words[1]).parent) if is_script else os.getcwd())  # noqa: PTH109  as Python does
    if words[0] != "python":
        from tuplet.app.cli import main  # noqa: PLC0415

        sys.argv = ["tuplet", *words]
        main()
    elif is_script:
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
    else:
        sys.argv = ["-c", *words[3:]]
        exec(compile(words[2], "-c", "exec"), {"__name__": "__main__"})  # noqa: S102


if __name__ == "__main__":
    serve()
