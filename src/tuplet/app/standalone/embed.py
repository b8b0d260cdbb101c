"""Embed with an exported model, without tuplet: `python embed.py a.jpg b.png` prints one row of numbers per item.

Images are files; rows are those of a .npy array, or of a .csv table with the columns that `model.json` names. It needs
numpy, onnxruntime or torch (with safetensors if that is what was exported), and for images Pillow.
"""

import csv
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


def main(items: list[str]) -> None:
    """Print the embeddings of some items, in their order."""
    facts = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    is_image = facts["kind"] == "image"
    inputs = np.stack([pixels(item, facts) for item in items]) if is_image else rows(items, facts)
    for row in embed(inputs):
        print(json.dumps(row.tolist()))


def embed(inputs: Any) -> Any:
    """Run the network: (n, ...) to (n, dim)."""
    if (HERE / "model.onnx").exists():
        import onnxruntime  # type: ignore[import-untyped, import-not-found, unused-ignore]  # one of the two is enough

        session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=["CPUExecutionProvider"])
        return session.run(None, {"inputs": inputs})[0]
    import torch  # as above

    with torch.no_grad():
        if (HERE / "model.safetensors").exists():
            from safetensors.torch import load_file

            network = runpy.run_path(str(HERE / "model.py"))["embed"]
            return network(load_file(HERE / "model.safetensors"), torch.from_numpy(inputs)).numpy()
        return torch.export.load(HERE / "model.pt2").module()(torch.from_numpy(inputs)).numpy()


def rows(items: list[str], facts: dict[str, Any]) -> Any:
    """Rows of arrays and tables, float32 (n, columns)."""
    parts = []
    for item in items:
        if item.endswith(".npy"):
            parts.append(np.load(item).astype(np.float32))
        else:
            with Path(item).open(newline="", encoding="utf-8-sig") as file:
                parts.append(np.array([[row[name] for name in facts["columns"]] for row in csv.DictReader(file)], "f4"))
    return np.concatenate(parts)


def pixels(item: str, facts: dict[str, Any]) -> Any:
    """An image as the network reads it, uint8 (channels, size, size)."""
    from PIL import Image, ImageOps  # rows do without

    side, mode = (facts["size"], facts["size"]), "L" if facts["channels"] == 1 else "RGB"
    with Image.open(item) as file:
        short = max(side[0], facts.get("resize", 0))
        file.draft(None, (2 * short, 2 * short))  # JPEG decodes at a fraction
        image = ImageOps.exif_transpose(file)
    if image.mode == "F" or image.mode.startswith("I"):  # more than 8 bits a channel
        low, high = facts["levels"]
        values = (np.asarray(image).astype(np.float64) - low) * (255 / (high - low))
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image, filtered = image.convert(mode), Image.Resampling[facts.get("resample", "bilinear").upper()]
    if facts.get("resize") and facts["fit_by"] == "crop":
        image = middle(image, side[0], facts["resize"], filtered)
    if image.size != side and facts["fit_by"] == "stretch":
        image = image.resize(side, filtered)
    elif image.size != side and facts["fit_by"] == "crop":
        image = ImageOps.fit(image, side, filtered)
    elif image.size != side:  # pad with the mean colour of the border
        edge = np.asarray(image).astype(np.float64)
        mean = np.concatenate([edge[0], edge[-1], edge[:, 0], edge[:, -1]]).mean(0).round().astype(int)
        color = int(mean) if mean.ndim == 0 else tuple(mean.tolist())
        image = ImageOps.pad(image, side, filtered, color=color)
    values = np.asarray(image)
    return values[None] if mode == "L" else values.transpose(2, 0, 1)


def middle(image: Any, size: int, resize: int, filtered: Any) -> Any:
    """The middle of an image whose shorter side was brought to `resize`."""
    shorter = min(image.size)
    image = image.resize([int(resize * one / shorter) if one != shorter else resize for one in image.size], filtered)
    left, top = (image.size[0] - size) // 2, (image.size[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


if __name__ == "__main__":
    main(sys.argv[1:])
