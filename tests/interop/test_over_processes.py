"""What an encoder receives over two processes: the multiples of one process's gradient that the guide's table has."""

import pytest
import torch

from distributed.launch import launch

MULTIPLES = {  # None where it is none: other pairs are compared, or some gradients are missing
    "supcon: tuplet": 1.0,
    "pairs: tuplet": 1.0,
    "clip: tuplet": 1.0,
    "supcon: each process by itself": None,
    "pairs: each process by itself": None,
    "supcon: wrapper, efficient=False": 1.0,
    "supcon: wrapper, efficient=True": None,
    "supcon: gathered with gradients": 1.0,
    "pairs: gathered": 1.0,
    "clip: local_loss=False, gather_with_grad=False": 0.5,
    "clip: local_loss=False, gather_with_grad=True": 1.0,
    "clip: local_loss=True, gather_with_grad=False": None,
    "clip: local_loss=True, gather_with_grad=True": 1.0,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Gradients of one process, and of two."""
    pytest.importorskip("pytorch_metric_learning")
    pytest.importorskip("sentence_transformers")
    folder = tmp_path_factory.mktemp("gradients")
    return [launch("interop.over_processes:gradients", size, folder)[0] for size in (1, 2)]


@pytest.mark.slow
@pytest.mark.distributed
def test_gradients_over_two_processes_are_the_multiples_of_the_table(found):
    alone, together = found
    assert together.keys() == MULTIPLES.keys()
    for name, multiple in MULTIPLES.items():
        truth = alone[f"{name.partition(':')[0]}: tuplet"]
        scale = multiple or (together[name] @ truth / (truth @ truth)).item()
        apart = ((together[name] - scale * truth).norm() / truth.norm()).item()
        assert apart < 1e-12 if multiple else apart > 0.1, (name, scale, apart)


@pytest.mark.distributed
def test_in_one_process_the_libraries_agree(found):
    alone, _ = found
    for name in ("supcon", "pairs"):
        truth = alone[f"{name}: tuplet"]
        torch.testing.assert_close(alone[f"{name}: each process by itself"], truth, atol=1e-12, rtol=0)
