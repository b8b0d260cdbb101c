"""Files of sound: folders and tables of them, their spectrogram, what is broken."""

import numpy as np
import pytest
import torch

from sounds import tone, write
from tuplet.data import SeriesPreprocessing, load_dataset, read_manifest
from tuplet.data.audio import load_sounds, log_mel
from tuplet.errors import DataError


def by_definition(x, rate, mels, size, step):
    """The equation of the module, term by term in float64."""
    x = np.pad(np.float64(x), (0, max(0, size - len(x))))
    corners = [700 * (10 ** (2595 * np.log10(1 + rate / 1400) * k / (mels + 1) / 2595) - 1) for k in range(mels + 2)]
    rows = []
    for start in range(0, len(x) - size + 1, step):
        power = []
        for f in range(size // 2 + 1):
            total = sum(
                (1 - np.cos(2 * np.pi * n / size)) / 2 * x[start + n] * np.exp(-2j * np.pi * f * n / size)
                for n in range(size)
            )
            power.append(abs(total) ** 2)
        row = []
        for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
            weight = [max(0, min((f * rate / size - low) / (middle - low), (high - f * rate / size) / (high - middle)))
                      for f in range(size // 2 + 1)]  # fmt: skip
            row.append(np.log(max(np.dot(weight, power), 1e-10)))
        rows.append(row)
    return np.array(rows).T


@pytest.mark.parametrize("length", [70, 20, 33])
def test_the_spectrogram_is_that_of_its_equation(length):
    x = np.random.default_rng(0).normal(size=length).astype(np.float32)
    found = log_mel(x, 1000, mels=5, window=0.032, hop=0.01)
    np.testing.assert_allclose(found, by_definition(x, 1000, 5, 32, 10), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_samples_are_between_minus_one_and_one_whatever_their_width(tmp_path, width):
    file = write(tmp_path / "a.wav", tone(440), width=width)
    found = load_sounds([file], 8000, mels=0, window=1, hop=1)[0]
    np.testing.assert_allclose(found, tone(440)[None], atol=2 / 2 ** (8 * width - 1))


def test_channels_are_averaged_and_rates_made_equal(tmp_path):
    stereo = write(tmp_path / "a.wav", [tone(200), np.zeros(4000)])
    found = load_sounds([stereo], 4000, mels=0, window=1, hop=1)[0]
    assert found.shape == (1, 2000)
    np.testing.assert_allclose(found[0, 100:-100], 0.5 * tone(200, rate=4000)[100:-100], atol=1e-3)


def test_a_folder_of_sounds_is_a_set_of_series(tmp_path):
    for split, number in (("train", 0), ("test", 1)):
        for name, pitch in (("low", 200), ("high", 1500)):
            write(tmp_path / "s" / split / f"{name}{split}" / f"{number}.wav", tone(pitch, 0.3 + 0.1 * number))
    (tmp_path / "s" / "notes.txt").write_text("mine")
    manifest = read_manifest(tmp_path / "s")
    assert (manifest.kind, manifest.splits) == ("series", ("train", "train", "test", "test")[::-1])
    assert sorted(manifest.class_names) == ["hightest", "hightrain", "lowtest", "lowtrain"]
    assert [name for name, _ in manifest.left_out] == ["notes.txt"]
    preprocessing = SeriesPreprocessing(rate=8000, mels=16)
    data = load_dataset(manifest, preprocessing)
    fitted = preprocessing.fit(data.inputs)
    batch = fitted(data.inputs)
    assert batch.shape == (4, 16, 38)
    loudest = [fitted.load([path])[0].mean(1).argmax().item() for path in manifest.items]
    assert [band > 8 for band in loudest] == ["high" in str(path) for path in manifest.items]
    again = SeriesPreprocessing(**{key: tuple(one) if isinstance(one, list) else one
                                   for key, one in fitted.to_config().items() if key != "kind"})  # fmt: skip
    torch.testing.assert_close(again(again.load([*manifest.items])), batch)


def test_a_table_may_name_sounds(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.wav", tone(200 + number))
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{number}.wav,c{number % 2}\n" for number in range(4)))
    manifest = read_manifest(tmp_path / "t.csv")
    assert (manifest.kind, manifest.class_names, manifest.ids[0]) == ("series", ("c0", "c1"), "0.wav")


def test_what_is_no_sound_is_named_or_left_out(tmp_path):
    write(tmp_path / "s" / "a" / "0.wav", tone(300))
    (tmp_path / "s" / "a" / "1.wav").write_bytes(b"RIFF\x10\x00\x00\x00WAVEfmt ")
    (tmp_path / "s" / "b").mkdir()
    (tmp_path / "s" / "b" / "2.wav").write_bytes(b"")
    (tmp_path / "s" / "b" / "3.wav").write_text("no sound at all")
    with pytest.raises(DataError) as refused:
        read_manifest(tmp_path / "s")
    assert refused.value.reference == "broken-sound"
    assert all(name in refused.value.message for name in ("2.wav", "3.wav"))
    kept = read_manifest(tmp_path / "s", skip_broken=True)
    assert (kept.ids, len(kept.left_out)) == (("a/0.wav",), 3)
    with pytest.raises(DataError) as refused:
        load_sounds([tmp_path / "s" / "a" / "1.wav"], 8000, mels=4, window=0.02, hop=0.01)
    assert refused.value.reference == "broken-sound"


def test_other_formats_take_a_package(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    soundfile.write(tmp_path / "a.flac", tone(440), 8000)
    found = load_sounds([tmp_path / "a.flac"], 8000, mels=0, window=1, hop=1)[0]
    np.testing.assert_allclose(found[0], tone(440), atol=1e-4)


def test_saved_series_without_sounds_say_nothing_of_them():
    assert SeriesPreprocessing().to_config().keys() == {
        "kind", "channels", "length", "mean", "scale", "fit_by", "per_series"
    }  # fmt: skip
