"""Collections that are packed: files within tables of Parquet or Arrow, or within tar archives.

They are unpacked once, into a folder of files and a table `table.parquet` that names them in its column `path`. From
there on they are read like any other table, by the same rules for columns, splits and classes.

| what | how it is known | splits |
| --- | --- | --- |
| saved by `datasets` | `dataset_dict.json`, or `dataset_info.json` with `.arrow` files | folders of a `DatasetDict` |
| Parquet | a column of `{bytes, path}`, or a folder of such files | `train-00000-of-00002.parquet`, folders |
| webdataset | `.tar`; members that share a name up to the first dot are an example | `train-000000.tar`, folders |
"""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tuplet.data.decoded import key_of
from tuplet.data.labels import split_name
from tuplet.data.source_errors import SourceErrors
from tuplet.errors import DataError
from tuplet.storage import replaced_folder

TABLE = "table.parquet"
_FORMAT = 1
_BLOCK = 256
"""Rows that are in memory at a time."""
_ENDINGS = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\x00", ".tif"),
    (b"MM\x00*", ".tif"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
)
_TEXTS, _CLASSES = ("txt", "text"), ("cls", "cls2")
_LARGEST = 1 << 30
"""Bytes of a member of an archive; a larger one is no picture and no sound."""


@dataclass
class _Rows:
    """What was unpacked so far.

    Attributes:
        folder: Takes the files.
        columns: Cells by name; one that a row lacks is None.
        count: Rows.
        files: Columns that hold files, by name, and how often.
    """

    folder: Path
    columns: dict[str, list[Any]] = field(default_factory=dict)
    count: int = 0
    files: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[str, Any]) -> None:
        """One example; what is bytes becomes a file."""
        for name, value in row.items():
            cells = self.columns.setdefault(name, [None] * self.count)
            cells.append(self._file(name, value) if isinstance(value, bytes) else value)
        self.count += 1
        for cells in self.columns.values():
            cells.extend([None] * (self.count - len(cells)))

    def _file(self, column: str, content: bytes) -> str:
        number = self.files[column]
        self.files[column] += 1
        place = self.folder / "files" / re.sub(r"[^\w.-]", "_", column) / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        file = place / f"{number:07d}{_ending(content)}"
        file.write_bytes(content)
        return file.relative_to(self.folder).as_posix()

    def write(self) -> None:
        """The table of all of it; the only column of files is called `path`."""
        names = dict(zip(self.columns, self.columns, strict=True))
        if len(self.files) == 1 and "path" not in self.columns:
            names[next(iter(self.files))] = "path"
        pq.write_table(
            pa.table({names[name]: _as_array(cells) for name, cells in self.columns.items()}), self.folder / TABLE
        )


def packed_files(source: Path) -> list[Path]:
    """The files of a packed collection; none if a source is something else."""
    if source.is_file():
        is_packed = source.suffix == ".tar" or (source.suffix == ".parquet" and _holds_files(source))
        return [source] if is_packed else []
    for pattern in ("*.arrow", "*/*.arrow"):
        if (source / "dataset_dict.json").is_file() or (source / "dataset_info.json").is_file():
            found = sorted(file for file in source.glob(pattern) if not file.name.startswith("cache-"))
            if found:
                return found
    for ending in (".parquet", ".tar"):
        found = sorted(file for pattern in (f"*{ending}", f"*/*{ending}") for file in source.glob(pattern))
        if found:
            return found
    return []


def unpack(source: Path, files: Sequence[Path], cache: Path) -> Path:
    """The table of a packed collection; unpacked the first time only.

    Args:
        source: What the user named.
        files: From `packed_files`.
        cache: Takes a folder, which may be deleted at any time.

    Raises:
        DataError: If a file is damaged, or the cache cannot be written.
    """
    place = cache.resolve() / f"unpacked-{key_of(files, (_FORMAT,))}"
    if (place / TABLE).is_file():
        return place / TABLE
    problems = SourceErrors(str(source))
    with replaced_folder(place, owns={TABLE, "files"}, error=DataError) as new:
        rows = _Rows(new)
        for file in files:
            split = _split_of(file, source)
            try:
                for row in _members(file) if file.suffix == ".tar" else _rows_of(file):
                    rows.add({**row, **({"split": split} if split and "split" not in row else {})})
            except (OSError, ValueError, pa.ArrowException, tarfile.TarError, EOFError) as error:
                said = next(iter(str(error).splitlines()), type(error).__name__)
                problems.add("damaged-archive", f"{file.name} is damaged or cut short: {said}")
        if not rows.count and not len(problems):
            problems.add("empty-source", "it holds no examples")
        problems.raise_if_any()
        rows.write()
    return place / TABLE


def _split_of(file: Path, source: Path) -> str:
    """The split that the name of a file or of its folder begins with; "" if none does."""
    stem = re.match(r"[A-Za-z]+", file.name)
    names = [stem[0] if stem else ""] + ([file.parent.name] if file.parent != source else [])
    return next((found for name in names if (found := split_name(name))), "")


def _holds_files(path: Path) -> bool:
    """Whether a file of Parquet has a column of files."""
    try:
        return any(_is_file(kind.type) for kind in pq.read_schema(path))
    except (OSError, pa.ArrowException):
        return False


def _is_file(kind: pa.DataType) -> bool:
    names = {kind.field(at).name for at in range(kind.num_fields)} if pa.types.is_struct(kind) else set()
    return {"bytes", "path"} <= names


def _rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """Rows of a file of Parquet or Arrow; what says of numbers which classes they are is heeded."""
    if file.suffix == ".parquet":
        opened = pq.ParquetFile(file)
        schema, batches = opened.schema_arrow, opened.iter_batches(_BLOCK)
    else:
        stream = pa.ipc.open_stream(pa.memory_map(str(file)))
        schema, batches = stream.schema, iter(stream)
    classes = _class_names(schema, file)
    for batch in batches:
        for row in batch.to_pylist():
            yield {name: _cell(value, classes.get(name), file) for name, value in row.items()}


def _cell(value: Any, classes: Sequence[str] | None, file: Path) -> Any:
    if classes is not None and isinstance(value, int):
        return classes[value] if 0 <= value < len(classes) else None
    if not (isinstance(value, dict) and {"bytes", "path"} <= value.keys()):
        return value
    if value["bytes"] is not None:
        return value["bytes"]
    beside = None if value["path"] is None else file.parent / value["path"]
    return beside.read_bytes() if beside is not None and beside.is_file() else None


def _class_names(schema: pa.Schema, file: Path) -> dict[str, list[str]]:
    """Names of classes by column, as `datasets` writes them into the schema or beside the file."""
    known = (schema.metadata or {}).get(b"huggingface")
    beside = file.parent / "dataset_info.json"
    try:
        info = (
            json.loads(known).get("info", {}) if known else json.loads(beside.read_text()) if beside.is_file() else {}
        )
        features = info.get("features") or {}
        return {
            name: [str(one) for one in feature["names"]]
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"what it says of its columns is no JSON ({error})") from error


def _members(file: Path) -> Iterator[dict[str, Any]]:
    """Examples of a tar archive: neighbours that share a name up to the first dot."""
    with tarfile.open(file) as archive:
        key: tuple[str, str] | None = None
        row: dict[str, Any] = {}
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            if not member.isfile() or not stem or not ending or member.size > _LARGEST:
                continue
            if (folder, stem) != key and row:
                yield row
                row = {}
            key = (folder, stem)
            opened = archive.extractfile(member)
            row.setdefault("id", f"{file.stem}/{folder}/{stem}".replace("//", "/"))
            row |= _part(ending.lower(), b"" if opened is None else opened.read())
        if row:
            yield row
        if file.stat().st_size - archive.offset < tarfile.BLOCKSIZE:
            raise EOFError("the mark of its end is missing")


def _part(ending: str, content: bytes) -> dict[str, Any]:
    """What a member says of its example, by the ending of its name."""
    last = ending.rpartition(".")[2]
    if last in _CLASSES:
        return {"label": content.decode().strip()}
    if last in _TEXTS:
        return {"text": content.decode().strip()}
    if last == "json":
        found = json.loads(content)
        scalars = {key: value for key, value in found.items() if isinstance(value, str | int | float)}
        return {key: value for key, value in scalars.items() if key != "id"}
    return {"path": content} if _ending(content) else {}


def _ending(content: bytes) -> str:
    """The ending of a file by its first bytes; "" if it is neither a picture nor a sound."""
    if content[:4] == b"RIFF":
        return {b"WAVE": ".wav", b"WEBP": ".webp"}.get(content[8:12], "")
    return next((ending for start, ending in _ENDINGS if content.startswith(start)), "")


def _as_array(cells: list[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError):  # of several types
        return pa.array([None if cell is None else str(cell) for cell in cells])
