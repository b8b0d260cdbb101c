import subprocess
import sys

import pytest


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


def test_retrieval_needs_neither_scipy_nor_scikit_learn():
    done = run(
        "import sys\n"
        "import torch, tuplet.evaluation as evaluation\n"
        "evaluation.retrieval(torch.eye(4), torch.tensor([0, 0, 1, 1]))\n"
        "evaluation.knn(torch.eye(4), torch.tensor([0, 0, 1, 1]))\n"
        "evaluation.verification(torch.eye(4), torch.tensor([0, 0, 1, 1]))\n"
        "evaluation.health(torch.eye(4))\n"
        "print({'scipy', 'sklearn'} & set(sys.modules))\n"
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("absent", "call"),
    [
        ("sklearn", "clustering(torch.eye(4), torch.tensor([0, 0, 1, 1]))"),
        ("scipy", "graded(torch.eye(4), torch.arange(4.0))"),
    ],
)
def test_a_missing_part_is_named_with_what_to_type(absent, call):
    names = [absent, f"{absent}.metrics", f"{absent}.cluster", f"{absent}.stats"]
    done = run(
        f"import sys\nsys.modules.update(dict.fromkeys({names}))\n"
        "import torch\nfrom tuplet.errors import MissingExtraError\nfrom tuplet.evaluation import clustering, graded\n"
        f"try:\n    {call}\nexcept MissingExtraError as error:\n    print(error, error.exit_code)\n"
    )
    assert f"needs {absent}, which is not installed" in done.stdout, done.stderr
    assert 'pip install "tuplet[app] @ git+https://' in done.stdout
    assert done.stdout.endswith(" 5\n")
