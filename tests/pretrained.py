"""A pretrained model of text: the format of sentence-transformers, with a tiny random network."""

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
