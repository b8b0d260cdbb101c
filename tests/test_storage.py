"""A folder or file is replaced whole or stays as it was."""

import os
import resource
import signal
import tempfile
import time
from pathlib import Path

import pytest

from tuplet import storage
from tuplet.errors import CheckpointError, IndexFormatError, install
from tuplet.storage import read_json, replaced_file, replaced_folder, settle, write_json

OWNS = {"a.txt", "b.txt"}


def write(folder, text, **more):
    with replaced_folder(folder, owns=OWNS, error=CheckpointError, **more) as new:
        for name in OWNS:
            (new / name).write_text(text)


def write_file(path, text):
    with replaced_file(path, error=IndexFormatError) as new:
        new.write_text(text)


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_is_made_with_its_parents_and_replaced_without_leftovers(tmp_path):
    folder = tmp_path / "deep" / "down"
    for text in ("old", "new"):
        write(folder, text)
        assert content(folder) == {"a.txt": text, "b.txt": text}
        assert [path.name for path in folder.parent.iterdir()] == ["down"]


def test_an_error_inside_leaves_the_old_content_and_nothing_else(tmp_path):
    write(tmp_path / "x", "old")

    def interrupted():
        with replaced_folder(tmp_path / "x", owns=OWNS, error=CheckpointError) as new:
            (new / "a.txt").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(tmp_path / "x") == {"a.txt": "old", "b.txt": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_text("dear")
    with pytest.raises(CheckpointError, match=r"holds 'holiday\.jpg', which was not written by tuplet"):
        write(tmp_path / "photos", "new")
    (tmp_path / "file").write_text("dear")
    with pytest.raises(CheckpointError, match="is a file, not a folder"):
        write(tmp_path / "file", "new")
    assert content(tmp_path / "photos") == {"holiday.jpg": "dear"}
    assert (tmp_path / "file").read_text() == "dear"


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    write(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "real")["a.txt"] == "new"


def test_a_path_below_a_file_cannot_be_written_and_the_error_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        CheckpointError, match="file/model could not be written: a part of this path is a file"
    ) as caught:
        write(tmp_path / "file" / "model", "new")
    assert caught.value.reference == "cannot-write"


def test_a_folder_without_permission_cannot_be_written():
    with tempfile.TemporaryDirectory() as folder:  # `tmp_path` lies in folders that nobody else may enter
        locked = Path(folder)
        write(locked / "model", "old")
        (locked / "a.csv").write_text("old")

        def trespass():
            if os.geteuid() == 0:
                os.seteuid(65534)  # root may write everywhere
            with pytest.raises(CheckpointError, match="model could not be written: Permission denied") as caught:
                write(locked / "model", "new")
            assert "may write to" in caught.value.hint
            with pytest.raises(IndexFormatError, match=r"a\.csv could not be written: Permission denied"):
                write_file(locked / "a.csv", "new")
            with pytest.raises(PermissionError) as refused:
                storage.write_file(locked / "a.csv", "new")
            assert refused.value.filename == str(locked / "a.csv")

        locked.chmod(0o555)
        try:
            assert in_child(trespass) == 0
        finally:
            locked.chmod(0o755)
        assert content(locked / "model") == dict.fromkeys(OWNS, "old")
        assert sorted(path.name for path in locked.iterdir()) == ["a.csv", "model"]


def test_a_full_disk_leaves_the_old_content_and_says_so(tmp_path):
    write(tmp_path / "x", "old")
    (tmp_path / "y.bin").write_text("old")

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(CheckpointError, match="x could not be written") as caught:
            write(tmp_path / "x", "new" * 1000)
        assert "Free some space" in caught.value.hint
        with pytest.raises(IndexFormatError, match=r"y\.bin could not be written") as caught:
            write_file(tmp_path / "y.bin", "new" * 1000)
        assert "Free some space" in caught.value.hint
        with pytest.raises(OSError, match="File too large") as refused:
            storage.write_file(tmp_path / "y.bin", "new" * 1000)
        assert refused.value.filename == str(tmp_path / "y.bin")

    assert in_child(fill) == 0
    assert content(tmp_path / "x") == {"a.txt": "old", "b.txt": "old"}
    assert (tmp_path / "y.bin").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y.bin"]


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_one_whole_version(tmp_path):
    folder = tmp_path / "x"
    write(folder, "0" * 5000)
    found = set()

    def replace_for_ever():
        for version in range(1, 1_000_000):
            write(folder, str(version % 10) * 5000)

    for attempt in range(40):
        child = start(replace_for_ever)
        time.sleep(0.002 + 0.0013 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        settle(folder)
        texts = set(content(folder).values())
        assert len(texts) == 1, "files of two versions"
        assert len(next(iter(texts))) == 5000
        found |= texts
    assert len(found) > 1, "no child lived long enough to write"
    write(folder, "end")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_moved_away_is_put_back(tmp_path):
    write(tmp_path / "x", "old")
    (tmp_path / "x").rename(tmp_path / ".x.previous")
    settle(tmp_path / "x")
    assert content(tmp_path / "x")["a.txt"] == "old"


def test_what_a_killed_process_did_not_clear_away_does_not_come_back(tmp_path):
    for name, text in (("x", "new"), (".x.previous", "old")):
        write(tmp_path / name, text)
    settle(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert content(tmp_path / "x")["a.txt"] == "new"


def test_readers_that_settle_all_the_time_stop_no_writer(tmp_path):
    write(tmp_path / "x", "0")

    def settle_for_ever():
        while True:
            settle(tmp_path / "x")

    readers = [start(settle_for_ever) for _ in range(2)]
    try:
        for version in range(150):
            write(tmp_path / "x", str(version))
            assert content(tmp_path / "x")["a.txt"] == str(version)
    finally:
        for reader in readers:
            os.kill(reader, signal.SIGKILL)
            os.waitpid(reader, 0)


def test_json_says_its_format_and_only_that_one_is_read(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"name": "naïve"}, version=3)
    assert read_json(path, version=3, error=CheckpointError, remedy="Do it.") == {"format": 3, "name": "naïve"}
    with pytest.raises(CheckpointError, match="has format 3; this version of tuplet reads format 4") as caught:
        read_json(path, version=4, error=CheckpointError, remedy="Do it.")
    assert caught.value.hint == f"Update tuplet ({install()}), or: Do it."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "is missing"),
        (b"", "is damaged"),
        (b'{"format": 3, "na', "is damaged"),
        (b'{"format": 3, "na\xff": 1}', "is damaged"),
        (b"[3]", "expected a JSON object"),
        (b'{"name": 1}', "has format None"),
    ],
)
def test_json_that_cannot_be_used_is_named(tmp_path, text, found):
    if text is not None:
        (tmp_path / "a.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=rf"a\.json .*{found}|a\.json {found}"):
        read_json(tmp_path / "a.json", version=3, error=CheckpointError, remedy="Do it.")


def test_a_directory_in_place_of_a_json_file_is_no_bug(tmp_path):
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_json(tmp_path, version=3, error=CheckpointError, remedy="Do it.")


def start(work):
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def in_child(work):
    return os.waitstatus_to_exitcode(os.waitpid(start(work), 0)[1])
