"""The data of recipes, read once and divided once however many ask for it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tuplet.data import Columns, Manifest, read_manifest
from tuplet.data.excluded import read_excluded
from tuplet.data.glyphs import make_glyphs
from tuplet.recipes.divide import divide
from tuplet.recipes.schema import Data, Split


class Reader:
    """Reads what the data section of a recipe names, and keeps the latest of it.

    Args:
        cache: Folder for data that is drawn once.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self._manifest: tuple[Data, Manifest] | None = None
        self._parts: tuple[Manifest, Split, Mapping[str, Manifest]] | None = None

    def manifest(self, data: Data) -> Manifest:
        """The data as it is read; see `read_manifest`."""
        key = data.model_copy(update={"split": Split()})
        if self._manifest is None or self._manifest[0] != key:
            self._manifest = key, _without(self._read(data), data.exclude)
        return self._manifest[1]

    def parts(self, manifest: Manifest, split: Split) -> Mapping[str, Manifest]:
        """The same divided; see `divide`."""
        if self._parts is None or self._parts[0] is not manifest or self._parts[1] != split:
            self._parts = manifest, split, divide(manifest, split)
        return self._parts[2]

    def _read(self, data: Data) -> Manifest:
        if data.source == "glyphs":
            return make_glyphs(self.cache)
        columns = Columns(**data.columns.model_dump())
        return read_manifest(
            data.source,
            kind=data.kind,
            labels=data.labels,
            targets=data.targets,
            columns=columns,
            skip_broken=data.skip_broken,
        )


def _without(manifest: Manifest, table: str | None) -> Manifest:
    """The data without the examples that a table of findings excludes."""
    if table is None:
        return manifest
    excluded = read_excluded(Path(table))
    kept = [at for at, name in enumerate(manifest.ids) if name not in excluded]
    note = f"{len(manifest) - len(kept):,} of {len(manifest):,} examples are left out, as {table} says."
    return replace(manifest.take(kept), notes=(*manifest.notes, note))
