"""Pictures a second at 224 pixels: the batches of `tuplet train` beside a bare DataLoader that decodes each epoch.

Run `python benchmarks/bench_pictures.py`. JPEG files of 500 x 375 pixels; both decode with Pillow at a fraction of the
size, bring the shorter side to 256 and take the middle 224. The DataLoader has a worker for each core. Wall-clock time
of a whole epoch in batches of 64, nothing else at work in this process.
Bound: once they are decoded, batches come 20 times as fast; the first start, which decodes and keeps them, takes no
longer than one and a half epochs of the DataLoader.
"""

import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import compare, record
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from tuplet.data import Dataset, ImagePreprocessing, Labels, Manifest, load_dataset
from tuplet.sampling import UniformSampler
from tuplet.training.ahead import Ahead

COUNT, BATCH, SIZE, RESIZE = 512, 64, 224, 256
WORKERS = os.cpu_count() or 1


def write(folder: Path) -> list[Path]:
    """Photographs, as far as a decoder can tell: smooth shapes with some noise."""
    random = np.random.default_rng(0)
    files = []
    for number in range(COUNT):
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), 3)
        pixels = np.asarray(small) + random.normal(0, 6, (375, 500, 3))
        path = folder / f"{number:04d}.jpg"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        files.append(path)
    return files


class Decoded(TorchDataset):
    """What one would write: a file is decoded when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> torch.Tensor:
        with Image.open(self.files[at]) as file:
            file.draft("RGB", (2 * RESIZE, 2 * RESIZE))
            image = file.convert("RGB")
        scale = RESIZE / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - SIZE) // 2, (image.height - SIZE) // 2
        return torch.from_numpy(np.array(image.crop((left, top, left + SIZE, top + SIZE)))).permute(2, 0, 1)


def loaded(files: list[Path], cache: Path) -> Dataset:
    preprocessing = ImagePreprocessing(SIZE, 3, resize=RESIZE, resample="bicubic", levels=(0.0, 255.0))
    manifest = Manifest("image", tuple(map(str, files)), tuple(files))
    return load_dataset(manifest, preprocessing, "example", cache=cache)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = Path(scratch, "photos"), Path(scratch, "cache")
        folder.mkdir()
        files = write(folder)
        loader = DataLoader(Decoded(files), BATCH, shuffle=True, num_workers=WORKERS)

        def bare() -> None:
            for batch in loader:
                assert batch.shape[1:] == (3, SIZE, SIZE)

        def first() -> None:
            shutil.rmtree(cache, ignore_errors=True)
            loaded(files, cache)

        data = Dataset(
            "image", loaded(files, cache).inputs, tuple(map(str, files)), Labels("none", torch.arange(COUNT))
        )
        ahead = Ahead(data, UniformSampler(COUNT, BATCH, seed=0), lambda count: slice(0, count), pin=False)

        def later() -> None:
            for _ in range(COUNT // BATCH):
                assert ahead.take()[1].inputs.shape[1:] == (3, SIZE, SIZE)

        name = f"DataLoader of {WORKERS} workers, an epoch"
        contestants = {name: bare, "tuplet, every epoch": later, "tuplet, the first start": first}
        bounds = {name: "", "tuplet, every epoch": "<= 0.05", "tuplet, the first start": "<= 1.5"}
        against = [(contestant, name, bound) for contestant, bound in bounds.items()]
        rows = compare(f"{COUNT} of 224 px", contestants, against, turns=3, clock=time.perf_counter)
        for row in [*rows]:
            rate = round(COUNT / float(str(row["seconds"])))
            rows.append(
                {"size": row["size"], "contestant": row["contestant"], "against": "pictures a second", "ratio": rate}
            )
    record("pictures a second", rows, threads=WORKERS)  # decoding: a worker or a thread for each core


if __name__ == "__main__":
    main()
