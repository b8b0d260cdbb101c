"""A pretrained model of text: the format of sentence-transformers, with a tiny random network."""

import json
import shutil

import pytest
import torch


def write(folder):
    """The folder of the model; the test is skipped where the packages are not installed."""
    sentences = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    parts = pytest.importorskip("sentence_transformers.models")
    bert = pytest.importorskip("transformers")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    bert.BertModel(bert.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder / "bert")
    (folder / "bert" / "vocab.txt").write_text("\n".join(words))
    bert.BertTokenizerFast(str(folder / "bert" / "vocab.txt")).save_pretrained(folder / "bert")
    modules = [parts.Transformer(str(folder / "bert")), parts.Pooling(16)]
    sentences.SentenceTransformer(modules=modules, device="cpu").save(str(folder / "pretrained"))
    return folder / "pretrained"


LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def write_vision(folder, family="Dinov2", size=28, **sizes):
    """A tiny model of images with the settings of an image processor: shorter side 32, middle of 28, bicubic."""
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(1)
    known = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": size, "patch_size": 14}
    config = getattr(library, f"{family}Config")(**{**known, **sizes})
    getattr(library, f"{family}Model")(config).save_pretrained(folder)
    processor = {"image_processor_type": "BitImageProcessor", "do_resize": True, "size": {"shortest_edge": 32}}
    processor |= {"do_center_crop": True, "crop_size": {"height": size, "width": size}, "resample": 3}
    processor |= {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def write_text(folder):
    """A tiny BERT that knows letters."""
    library = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(2)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    library.BertModel(library.BertConfig(vocab_size=len(words), **sizes)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    library.BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def cached(folder, name, home):
    """The same files where the cache of Hugging Face below `home` keeps the model `name`."""
    place = home / "hub" / f"models--{name.replace('/', '--')}"
    commit = "0" * 40
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(folder, place / "snapshots" / commit)
    return place
