"""Word vectors beside gensim: words per second with the same text and settings, and what the vectors are worth.

Run `python benchmarks/bench_words.py CACHE` for speed, and `python benchmarks/bench_words.py CACHE --quality SEEDS` for
the table of the guide (half an hour for each seed). Texts are fetched into CACHE by `corpora.py`; gensim 4.4 is needed.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from corpora import fetch
from measure import compare, record
from torch import Tensor

from tuplet.data import Corpus, read_corpus
from tuplet.evaluation.words import word_similarity
from tuplet.recipes import build, load_recipe
from tuplet.training.state import State
from tuplet.training.words import word_table

WORKERS = 2
SETTINGS = ("model.dim=100", "batch.window=5", "loss.noise_samples=10", "data.words.min_count=5")
OURS = {"negative sampling": "words", "nce": "mnih-2013-small"}
Trained = tuple[Sequence[str], Tensor]


def ours(preset: str, texts: Path, cache: Path, epochs: int, seed: int) -> Callable[[], Trained]:
    """A training by a preset, without its run folder."""
    changes = [f"data.source={texts}", f"train.epochs={epochs}", f"seed={seed}", *SETTINGS]

    def run() -> Trained:
        job = build(load_recipe(preset, changes), cache=cache)
        state = State(job, torch.device("cpu"))
        while not state.is_done:
            state.take_step(watched=False)
        return job.train.ids, word_table(job.embedder)

    return run


def baseline(corpus: Corpus, epochs: int, seed: int) -> Callable[[], Trained]:
    """Gensim's skip-gram with negative sampling; its vocabulary is made before the clock starts."""
    from gensim.models import Word2Vec  # noqa: PLC0415  # the baseline is optional

    words = np.array(corpus.words, dtype=object)
    texts = [words[corpus.ids[start : start + 1000]].tolist() for start in range(0, len(corpus), 1000)]

    def run() -> Trained:
        model = Word2Vec(
            vector_size=100, window=5, negative=10, min_count=5, sample=1e-3, sg=1, workers=WORKERS, seed=seed
        )
        model.build_vocab(texts)
        model.train(texts, total_examples=len(texts), epochs=epochs)
        return model.wv.index_to_key, torch.from_numpy(model.wv.vectors)

    return run


def score(trained: Trained) -> dict[str, float]:
    """Spearman's rho on WordSim-353 and SimLex-999, in the copies that come with gensim."""
    from gensim.test.utils import datapath  # noqa: PLC0415  # the baseline is optional

    files = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
    return {
        name: round(word_similarity(*trained, Path(datapath(file)), bootstrap=0).values["spearman"], 3)
        for name, file in files.items()
    }


def speed(cache: Path) -> None:
    """One pass over the glosses and the Bible, in turns; four passes for what the vectors are worth."""
    texts = cache / "small"
    texts.mkdir(exist_ok=True)
    for name in ("glosses", "bible"):
        (texts / f"{name}.txt").write_bytes((cache / "texts" / f"{name}.txt").read_bytes())
    corpus = read_corpus(sorted(texts.glob("*.txt")), cache=cache / "read")
    contestants = {name: ours(preset, texts, cache / "read", 1, 0) for name, preset in OURS.items()}
    contestants["gensim, 2 workers"] = baseline(corpus, 1, 0)
    against = [(name, "gensim, 2 workers", "<= 1.25") for name in contestants]
    rows = compare(f"{len(corpus):,} words", contestants, against, turns=3, clock=time.perf_counter)
    for row in rows:
        print(f"{row['contestant']}: {len(corpus) / float(str(row['seconds'])):,.0f} words per second")
    record("word vectors beside gensim, one pass", rows)


def quality(cache: Path, texts: Path, seeds: Sequence[int]) -> None:
    """Four passes over all five texts, for each seed; a line of JSON per training."""
    corpus = read_corpus(sorted(texts.glob("*.txt")), cache=cache / "read")
    found: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        trainings = {name: ours(preset, texts, cache / "read", 4, seed) for name, preset in OURS.items()}
        trainings["gensim"] = baseline(corpus, 4, seed + 1)
        for name, run in trainings.items():
            begin = time.perf_counter()
            scores = score(run())
            found.setdefault(name, []).append(scores)
            seconds = time.perf_counter() - begin
            print(json.dumps({"training": name, "seed": seed, **scores, "seconds": round(seconds, 1)}), flush=True)
    for name, runs in found.items():
        means = {key: round(statistics.mean(run[key] for run in runs), 3) for key in runs[0]}
        spread = {key: round(max(run[key] for run in runs) - min(run[key] for run in runs), 3) for key in runs[0]}
        print(json.dumps({"training": name, "mean": means, "spread": spread}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", type=Path, nargs="?", default=Path("build", "bench"))
    parser.add_argument("--quality", type=int, metavar="SEEDS", default=0)
    chosen = parser.parse_args(sys.argv[1:])
    texts = chosen.cache / "texts"
    fetch(texts)
    if chosen.quality:
        quality(chosen.cache, texts, range(chosen.quality))
    else:
        speed(chosen.cache)


if __name__ == "__main__":
    main()
