import math

import numpy as np
import pytest
import torch
from scipy import stats

from tuplet.errors import DataError, ShapeError
from tuplet.evaluation import WordPairs, read_word_pairs, word_similarity

WORDS = ["cat", "dog", "car", "bus", "sun", "moon"]
PAIRS = WordPairs(
    (("cat", "dog"), ("car", "bus"), ("sun", "moon"), ("cat", "bus"), ("dog", "sun")), (9.0, 8.5, 7.0, 2.0, 1.0)
)


def vectors():
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("text", "pairs", "scores"),
    [
        (
            "Word 1\tWord 2\tHuman (mean)\nlove\tsex\t6.77\ntiger\tcat\t7.35\n",
            [("love", "sex"), ("tiger", "cat")],
            [6.77, 7.35],
        ),
        ("Word 1,Word 2,Human (mean),1,2\nlove,sex,6.77,9,6\n", [("love", "sex")], [6.77]),
        ("word1\tword2\tPOS\tSimLex999\tconc(w1)\nold\tnew\tA\t1.58\t2.72\n", [("old", "new")], [1.58]),
        ("sun sunlight 50.0\n\ncar  wheel   3\n", [("sun", "sunlight"), ("car", "wheel")], [50, 3]),
        ("# a comment\nbread\tbutter\t6.19\n", [("bread", "butter")], [6.19]),
        ('\ufeff"New York",city,8\r\n', [("New York", "city")], [8]),
    ],
    ids=["wordsim-tab", "wordsim-comma", "simlex", "men-space", "remark", "quoted-bom"],
)
def test_files_of_every_shape_are_read(tmp_path, text, pairs, scores):
    file = tmp_path / "pairs.txt"
    file.write_bytes(text.encode())
    assert read_word_pairs(file) == WordPairs(tuple(pairs), tuple(scores))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\tb\t1\nc\td\nc\td\tmuch\ne\t\t2\n", r"3 lines .* column 3: 2, 3, 4"),
        ("", "no column of numbers"),
        ("just some words\nand more words\n", "no column of numbers"),
        ("a,b,nan\nc,d,nan\n", "no column of numbers"),
    ],
)
def test_broken_files_are_refused_with_their_lines(tmp_path, text, message):
    file = tmp_path / "pairs.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_word_pairs(file)
    assert error.value.reference == "word-pairs-file"


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt cannot be read"):
        read_word_pairs(tmp_path / "nowhere.txt")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_word_pairs(tmp_path / "binary")


@pytest.mark.parametrize("geometry", ["cosine", "euclidean"])
def test_the_correlation_is_scipys(geometry):
    found = word_similarity(WORDS, vectors(), PAIRS, geometry=geometry, bootstrap=0)
    x = vectors().double()
    first, second = (torch.stack([x[WORDS.index(pair[side])] for pair in PAIRS.pairs]) for side in (0, 1))
    keys = torch.cosine_similarity(first, second) if geometry == "cosine" else -(first - second).norm(dim=1)
    assert found.values["spearman"] == pytest.approx(stats.spearmanr(keys, PAIRS.scores).statistic)
    assert found.values["coverage"] == 1


def test_words_without_a_vector_are_counted_and_left_out_or_scored_zero():
    pairs = WordPairs((*PAIRS.pairs, ("cat", "yak"), ("gnu", "yak")), (*PAIRS.scores, 5.0, 6.0))
    found = word_similarity(WORDS, vectors(), pairs, bootstrap=0)
    assert found.values["spearman"] == word_similarity(WORDS, vectors(), PAIRS, bootstrap=0).values["spearman"]
    assert found.values["coverage"] == pytest.approx(5 / 7)
    assert found.missing == ("gnu", "yak")
    assert found.counts == {"n_pairs": 7, "n_scored": 5, "n_missing_words": 2}
    zero = word_similarity(WORDS, vectors(), pairs, missing="zero", bootstrap=0)
    assert zero.counts["n_scored"] == 7
    assert zero.values["spearman"] != found.values["spearman"]


def test_capital_letters_derivative_back_to_small_ones():
    pairs = WordPairs((("Cat", "DOG"), ("sun", "moon"), ("car", "bus")), (3.0, 2.0, 1.0))
    assert word_similarity(WORDS, vectors(), pairs, bootstrap=0).values["coverage"] == 1


def test_the_interval_holds_the_value_and_follows_the_seed(tmp_path):
    generator = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    pairs = [(words[i], words[i + 1], generator.random()) for i in range(59)]
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{a}\t{b}\t{score}\n" for a, b, score in pairs))
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(1))
    found = word_similarity(words, x, file, bootstrap=200)
    assert found.lower["spearman"] < found.values["spearman"] < found.upper["spearman"]
    assert found.to_dict() == word_similarity(words, x, file, bootstrap=200).to_dict()
    assert found.lower != word_similarity(words, x, file, bootstrap=200, seed=1).lower


def test_nothing_known_gives_no_number():
    found = word_similarity(["yak"], torch.ones(1, 2), PAIRS)
    assert math.isnan(found.values["spearman"])
    assert found.values["coverage"] == 0


def test_one_vector_for_each_word():
    with pytest.raises(ShapeError, match="6 words and 2 vectors"):
        word_similarity(WORDS, torch.zeros(2, 3), PAIRS)
