from unicodedata import normalize

import numpy as np
import pytest

from tuplet.data import WordPreprocessing, preprocessing_from_config, read_corpus
from tuplet.errors import DataError

TEXT = "The cat's here.\nthe DOG; the cat's\n\nnaïve 42 dog -- the end"


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def spoken(corpus):
    return [corpus.words[word] for word in corpus.ids.tolist()]


def test_words_are_ordered_by_count_and_then_by_alphabet(text):
    corpus = read_corpus([text], min_count=1)
    assert corpus.words == ("the", "cat's", "dog", "end", "here", "naïve")
    assert corpus.counts.tolist() == [4, 2, 2, 1, 1, 1]
    assert spoken(corpus) == ["the", "cat's", "here", "the", "dog", "the", "cat's", "naïve", "dog", "the", "end"]
    assert corpus.ids.dtype == np.int32
    assert corpus.read == 11


def test_rare_words_leave_no_gap(text):
    corpus = read_corpus([text], min_count=2)
    assert spoken(corpus) == ["the", "cat's", "the", "dog", "the", "cat's", "dog", "the"]
    assert corpus.read == 11


def test_options_decide_what_a_word_is(text):
    corpus = read_corpus([text], min_count=1, pattern=r"\w+", lower=False)
    assert {"The", "the", "DOG", "naïve", "42"} <= set(corpus.words)


def test_texts_begin_where_files_or_lines_begin(text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("the dog")
    assert read_corpus([text, other], min_count=1).starts.tolist() == [0, 11]
    assert read_corpus([text, other], min_count=1, by_line=True).starts.tolist() == [0, 3, 7, 11]
    assert read_corpus([text, other], min_count=3).starts.tolist() == [0, 6]


@pytest.mark.parametrize("before", [b"one ", b"one two " * 700_000, "é ".encode() * 1_500_001])
@pytest.mark.parametrize("by_line", [True, False])
def test_text_in_another_encoding_is_refused_and_the_byte_named(tmp_path, before, by_line):
    path = tmp_path / "bad.txt"
    path.write_bytes(before + "Straße two one".encode("latin-1"))
    with pytest.raises(DataError, match=f"byte {len(before) + 4} ") as caught:
        read_corpus([path], min_count=1, by_line=by_line)
    assert caught.value.reference == "not-text"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Straße STRASSE", ["straße", "strasse"]),
        ("Мама мыла раму", ["мама", "мыла", "раму"]),
        ("e\u0301cole \u00e9cole ÉCOLE", ["école"] * 3),
        ("don\u2019t don't Don\u02bct", ["don't", "don't", "donʼt"]),
        ("co\u00adop\u00aderate", ["cooperate"]),
        ("हिन्दी में لَيْلٌ", ["हिन्दी", "में", "لَيْلٌ"]),
        ("한국어 단어", ["한국어", "단어"]),
        ("カタカナ と ひら", ["カタカナ", "と", "ひ", "ら"]),
        ("我们是 abc中文 42", ["我", "们", "是", "abc", "中", "文"]),
        ("x1 3D rock'n'roll", ["x", "d", "rock'n", "roll"]),
    ],
)
def test_words_are_letters_of_any_script(tmp_path, text, words):
    path = tmp_path / "text.txt"
    path.write_text(f"\ufeff{text}", encoding="utf-8")
    corpus = read_corpus([path], min_count=1)
    assert spoken(corpus) == [normalize("NFC", word) for word in words]
    places = WordPreprocessing(corpus.words).load([text])[0] - 1
    assert places.tolist() == corpus.ids.tolist()


def test_text_of_ascii_has_the_words_that_the_whole_pattern_finds(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("It's 5 o'clock; 'quoted' A_b c-d e''f x'9 'n' ")
    plain = spoken(read_corpus([path], min_count=1))
    path.write_text("It's 5 o'clock; 'quoted' A_b c-d e''f x'9 'n' é", encoding="utf-8")
    assert spoken(read_corpus([path], min_count=1)) == [*plain, "é"]


def test_scripts_without_spaces_are_reported(tmp_path, caplog):
    path = tmp_path / "text.txt"
    path.write_text("我们是学生。" * 5 + "We are.", encoding="utf-8")
    assert read_corpus([path], min_count=1).read == 27
    assert "25 of 27 words" in caplog.text
    caplog.clear()
    path.write_text("我们 是 学生 。" * 5, encoding="utf-8")
    assert read_corpus([path], min_count=1, pattern=r"\S+").words[0] in {"我们", "是", "学生", "。"}
    assert not caplog.text


def test_a_file_of_another_kind_is_no_text(tmp_path):
    path = tmp_path / "wide.txt"
    path.write_bytes("one two".encode("utf-16"))
    with pytest.raises(DataError, match=r"wide\.txt is not plain text") as caught:
        read_corpus([path], min_count=1)
    assert caught.value.reference == "not-text"


def test_the_cache_answers_as_the_text_does(text, tmp_path):
    fresh = read_corpus([text], min_count=1, by_line=True)
    for _ in range(2):
        cached = read_corpus([text], min_count=1, by_line=True, cache=tmp_path / "cache")
        assert cached.words == fresh.words
        assert cached.read == fresh.read
        for one, other in ((cached.ids, fresh.ids), (cached.counts, fresh.counts), (cached.starts, fresh.starts)):
            assert np.array_equal(one, other)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    text.write_text("another text another text", encoding="utf-8")
    assert read_corpus([text], min_count=1, by_line=True, cache=tmp_path / "cache").words == ("another", "text")


def test_a_damaged_cache_is_made_again(text, tmp_path):
    read_corpus([text], min_count=1, cache=tmp_path / "cache")
    (numbers,) = (tmp_path / "cache").rglob("ids.npy")
    numbers.write_bytes(numbers.read_bytes()[:-5])
    for _ in range(2):
        again = read_corpus([text], min_count=1, cache=tmp_path / "cache")
        assert spoken(again) == spoken(read_corpus([text], min_count=1))


def test_a_text_of_one_long_line_is_read_in_pieces(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("one three " * 900_000 + "end")
    corpus = read_corpus([path], min_count=1)
    assert corpus.words == ("one", "three", "end")
    assert corpus.counts.tolist() == [900_000, 900_000, 1]


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({"min_count": 9}, "no-words"),
        ({"pattern": "[a-z"}, "bad-pattern"),
        ({"pattern": "([a-z]+)"}, "bad-pattern"),
    ],
)
def test_mistakes_are_explained(text, options, reference):
    with pytest.raises(DataError) as caught:
        read_corpus([text], **options)
    assert caught.value.reference == reference


def test_a_missing_file_is_named(tmp_path):
    for cache in (None, tmp_path):
        with pytest.raises(DataError, match=r"nowhere\.txt"):
            read_corpus([tmp_path / "nowhere.txt"], cache=cache)


def test_texts_become_places_in_the_vocabulary():
    preprocessing = preprocessing_from_config(WordPreprocessing(("the", "cat's")).to_config())
    assert preprocessing == WordPreprocessing(("the", "cat's"))
    found = preprocessing.load(["The unknown CAT'S", "", "the"])
    assert [one.tolist() for one in found] == [[1, 2], [], [1]]
    assert preprocessing(found).tolist() == [[1, 2], [0, 0], [1, 0]]
    assert preprocessing(preprocessing.load([""])).shape == (1, 1)
