import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow", "sklearn")
HEAVY += ("matplotlib", "torch", "tyro", "PIL")


def test_importing_the_losses_loads_jax_and_nothing_heavier():
    code = (
        "import sys, lmf_jax; from lmf_jax import lmf_loss, class_margins; import lmf_jax.losses;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


ROOT = Path(__file__).parent.parent
BORDERS = {
    "lmf_jax": ("data", "train", "benchmarks", "torch", "tensorflow"),
    "lmf_jax/losses": ("flax", "optax", "lmf_jax.models", "lmf_jax.evaluation", "lmf_jax.training"),
    "lmf_jax/models": ("optax", "lmf_jax.losses", "lmf_jax.evaluation", "lmf_jax.training"),
    "lmf_jax/evaluation": ("optax", "lmf_jax.training"),
    "data": ("flax", "optax", "orbax", "tensorflow", "lmf_jax.models", "lmf_jax.training"),
}

ALLOWED = (
    "lmf_jax/models/weight_files.py imports torch",  # when it reads a .pth, not before
    "lmf_jax/__main__.py imports data",  # inside of the commands that need images
)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("folder", BORDERS)
def test_imports_only_point_down(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    crossings = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in imported(path)
        for border in BORDERS[folder]
        if name == border or name.startswith(border + ".")
    ]
    crossings = [crossing for crossing in crossings if not crossing.startswith(ALLOWED)]
    assert not crossings


def test_the_entry_stays_short():
    assert len((ROOT / "train.py").read_text().splitlines()) < 80
