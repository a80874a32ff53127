"""The loss of docs/extending.md: its code is imported, trained and used from the command line."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.losses import make_objective
from tests.docs.conftest import DOCS, documented_code

ROOT = DOCS.parent


def test_the_example_has_fewer_than_thirty_lines() -> None:
    assert len(documented_code("A new loss").splitlines()) < 30


@pytest.mark.usefixtures("own_files")
def test_the_documented_loss_is_poly_1() -> None:
    import my_loss

    logits = jax.random.normal(jax.random.key(0), (6, 3))
    labels = jnp.array([0, 1, 2, 2, 1, 0])
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]
    expected = -log_p + 0.5 * (1 - jnp.exp(log_p))
    losses = my_loss.poly1_loss(logits, labels, tau=0.5)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    objective = make_objective("poly-1", [3, 2, 1], tau=0.5)
    np.testing.assert_allclose(objective(logits, labels), expected.mean(), rtol=1e-5)


@pytest.mark.usefixtures("tiny_train")
def test_the_documented_training_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL)
    [code] = [block for block in blocks if block.startswith("import my_loss")]
    names: dict = {}
    exec(code, names)
    results = names["run"].results
    assert (results.config["loss"], results.config["tau"]) == ("poly-1", 0.5)
    assert np.isfinite(results.history[0]["val_loss"])
    assert 0 <= results.test["macro_f1"] <= 1


def run_documented(command: str, arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """Run a documented ``python -c`` with other arguments, in the folder of the files."""
    code = re.search(rf'python -c "(import my_loss, my_model; .*{command}.*)" ', PAGE)[1]
    command_line = [sys.executable, "-c", code, *arguments.split()]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command_line, cwd=folder, env=environment, capture_output=True, text=True)


PAGE = (DOCS / "extending.md").read_text()


@pytest.mark.slow
def test_the_documented_files_are_used_from_the_command_line(own_files, data_dir) -> None:
    arguments = f"--loss poly-1 --model small-net --epochs 1 --data-dir {data_dir} --run-dir run"
    trained = run_documented("from train import main", arguments, own_files)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("small-net with loss poly-1 on digits_lt")
    again = run_documented("lmf_jax.__main__", f"evaluate run --data-dir {data_dir}", own_files)
    assert again.returncode == 0, again.stderr
    assert "macro mean" in again.stdout


def test_the_documented_loss_is_gone_after_the_tests() -> None:
    with pytest.raises((UserError, ValueError), match="poly-1"):
        make_objective("poly-1", [3, 2, 1])
