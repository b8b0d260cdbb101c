"""Numbers of every size come out of preprocessing centred, scaled and apart."""

import numpy as np
import pytest
import torch

from tuplet.data import SeriesPreprocessing, VectorPreprocessing, load_dataset, preprocessing_from_config, read_manifest

SECONDS = 1_700_000_000 + np.linspace(0, 4_800, 500).round(2)
EXPECTED = (SECONDS - SECONDS.mean()) / SECONDS.std()


def fitted(rows):
    loaded = VectorPreprocessing().load(rows)
    return VectorPreprocessing().fit(loaded), loaded


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_times_of_80_minutes_are_scaled_and_stay_apart(kind):
    rows = np.stack([SECONDS.astype(kind), np.arange(500)], axis=1)
    preprocessing, loaded = fitted(rows)
    scaled = preprocessing(loaded)
    assert scaled.dtype == torch.float32
    assert len(scaled[:, 0].unique()) == len(np.unique(rows[:, 0]))
    np.testing.assert_allclose(scaled[:, 0], EXPECTED, atol=1e-3)
    again = preprocessing_from_config(preprocessing.to_config())  # as a saved model reads it, a row at a time
    for row in (0, 250, 499):
        np.testing.assert_array_equal(again(again.load(rows[row : row + 1])), scaled[row : row + 1])


def test_times_in_single_precision_are_scaled_as_far_as_they_were_saved():
    preprocessing, loaded = fitted(np.stack([SECONDS, np.arange(500)], axis=1).astype(np.float32))
    assert loaded.dtype == torch.float32
    assert abs(float(preprocessing(loaded)[:, 0].std()) - 1) < 0.02


@pytest.mark.parametrize("size", [1e-15, 1e-30, 1.0, 1e15])
def test_columns_of_any_size_have_one_deviation(size):
    values = np.random.default_rng(0).normal(size=(200, 1)) * size
    preprocessing, loaded = fitted(values)
    np.testing.assert_allclose(preprocessing(loaded)[:, 0], (values / values.std())[:, 0], atol=0.3, rtol=1e-3)
    assert abs(float(preprocessing(loaded).std()) - 1) < 0.01


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.7e9, 1e-15])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_does_not_vary_is_centred_alone(constant, kind):
    preprocessing, loaded = fitted(np.full((100, 1), constant, kind))
    assert preprocessing.scale == (1.0,)
    assert float(preprocessing(loaded).abs().max()) <= max(200.0 if kind == np.float32 else 0, 1e-9)


def test_what_single_precision_holds_stays_single():
    rows = np.random.default_rng(0).normal(size=(50, 3)) + 2_000
    assert VectorPreprocessing().load(rows).dtype == torch.float32


def test_channels_of_series_are_scaled_alike():
    series = np.stack([SECONDS.reshape(5, 100), np.arange(500.0).reshape(5, 100)], axis=1)
    for items in (series, list(series)):
        preprocessing = SeriesPreprocessing()
        loaded = preprocessing.load(items)
        scaled = preprocessing.fit(loaded)(loaded)
        assert scaled.dtype == torch.float32
        np.testing.assert_allclose(scaled[:, 0].flatten(), EXPECTED, atol=1e-3)
    alone = SeriesPreprocessing(per_series=True)
    loaded = alone.load(series)
    assert len(alone.fit(loaded)(loaded)[0, 0].unique()) == 100


def test_times_of_a_table_reach_the_encoder_apart(tmp_path):
    (tmp_path / "t.csv").write_text(
        "\n".join(["time,label", *(f"{one:.2f},{row % 3}" for row, one in enumerate(SECONDS))])
    )
    dataset = load_dataset(read_manifest(tmp_path / "t.csv"), VectorPreprocessing())
    scaled = VectorPreprocessing().fit(dataset.inputs)(dataset.inputs)
    np.testing.assert_allclose(scaled[:, 0], EXPECTED, atol=1e-3)
