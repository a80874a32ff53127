import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HEAVY = ("flax", "optax", "orbax", "grain", "tensorflow_datasets", "tensorflow", "sklearn")
HEAVY += ("matplotlib", "torch", "tyro", "PIL", "scipy", "jinja2", "tqdm", "tensorboardX", "h5py")
HEAVY += ("pooch", "requests", "safetensors", "imagehash", "nibabel", "absl")

LOADED = {
    "lmf_jax": (),
    "lmf_jax.losses": (),
    "lmf_jax.config": (),
    "lmf_jax.distributed": (),
    "lmf_jax.runs": (),
    "lmf_jax.models": ("flax", "absl"),
    "lmf_jax.evaluation": ("scipy",),
    "lmf_jax.inference.classifier": ("flax", "absl", "orbax", "scipy"),
    "lmf_jax.training.loop": ("flax", "absl", "optax", "orbax", "tensorboardX", "torch", "tqdm"),
    "lmf_jax.cli.main": ("flax", "absl", "optax", "orbax", "scipy", "tyro"),
    "data": ("PIL", "absl", "grain", "orbax", "tqdm"),
}
"""Of the heavy packages, those that the import of a module loads: ``absl`` comes with Flax and
Grain, ``orbax`` with Grain, ``torch`` with tensorboardX where it is installed.
"""


@pytest.mark.parametrize("module", LOADED)
def test_an_import_loads_only_the_heavy_packages_that_it_uses(module):
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) <= set(LOADED[module])


def test_importing_the_losses_loads_jax_and_nothing_heavier():
    code = (
        "import sys, lmf_jax; from lmf_jax import lmf_loss, class_margins; import lmf_jax.losses;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


ROOT = Path(__file__).parent.parent

LMF_JAX = (
    "errors extras json_text metadata_encoding npz output_files",
    "losses",
    "models",
    "config",
    "distributed",
    "runs",
    "evaluation",
    "documents",
    "inference",
    "training",
    "cli",
    "__main__",
)
"""Modules and packages of ``lmf_jax``, from the bottom to the top; each imports only those above
it in this list, and its own."""

DATA = (
    "file_names registry shard sources storage",
    "formats",
    "labels names volume_spec",
    "builders",
    "datasets",
    "prepared",
    "splits",
    "batches",
    "inputs",
    "audit",
    "__main__",
)
"""The same for ``data``."""

NEVER = {
    "lmf_jax": ("train", "benchmarks", "tests", "tensorflow"),
    "lmf_jax/losses": ("flax", "optax"),
    "lmf_jax/models": ("optax",),
    "lmf_jax/evaluation": ("optax",),
    "data": ("flax", "optax", "orbax", "tensorflow", "train", "benchmarks", "tests"),
}
"""Packages that a folder does not import."""

FROM_DATA = ("cli", "config", "errors", "evaluation", "extras", "json_text", "losses", "npz")
FROM_DATA += ("metadata_encoding", "output_files")
"""Parts of ``lmf_jax`` that ``data`` may import."""


def modules(folder):
    """Return the modules below a folder, as dotted names, with what each of them imports."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = set(imported(path))
    assert found
    return found


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rank(layers, name):
    """Return the layer of a dotted name, the lowest 0; None for the package itself."""
    part = name.split(".")[1] if "." in name else ""
    return next((i for i, layer in enumerate(layers) if part in layer.split()), None)


@pytest.mark.parametrize(("package", "layers"), [("lmf_jax", LMF_JAX), ("data", DATA)])
def test_imports_only_point_down(package, layers):
    upward = []
    for name, imports in modules(package).items():
        if name == package:
            continue
        assert rank(layers, name) is not None, f"{name} is in no layer"
        for other in imports:
            above = rank(layers, other) if other.startswith(f"{package}.") else None
            if above is not None and above > rank(layers, name):
                upward.append(f"{name} imports {other}")
    assert not upward


@pytest.mark.parametrize("package", ["lmf_jax", "data"])
def test_no_two_modules_import_each_other(package):
    graph = {name: {o for o in found if o != name} for name, found in modules(package).items()}
    packages = {name for name in graph if (ROOT / name.replace(".", "/")).is_dir()}
    graph = {name: set(graph[name]) & set(graph) - packages for name in set(graph) - packages}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.slow
def test_every_module_of_lmf_jax_can_be_imported_first():
    """A package's ``__init__`` that imports a module which needs the package fails only then."""
    code = f"""
import importlib, sys
for name in {sorted(set(modules("lmf_jax")) - {"lmf_jax.models.keras_file"})}:
    for loaded in [module for module in sys.modules if module.split(".")[0] == "lmf_jax"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("folder", NEVER)
def test_a_part_does_not_import_what_it_has_no_use_for(folder):
    crossings = [
        f"{name} imports {other}"
        for name, imports in modules(folder).items()
        for other in imports
        if other.split(".")[0] in NEVER[folder]
    ]
    assert not crossings


def test_only_the_command_line_imports_the_data_and_the_data_little_of_lmf_jax():
    from_lmf_jax = {
        name
        for name, imports in modules("lmf_jax").items()
        if any(other.split(".")[0] == "data" for other in imports)
    }
    assert all(name.startswith("lmf_jax.cli.") for name in from_lmf_jax)
    used = {
        other.split(".")[1]
        for imports in modules("data").values()
        for other in imports
        if other.startswith("lmf_jax.")
    }
    assert used <= set(FROM_DATA)


def test_torch_is_never_imported():
    for package in ("lmf_jax", "data"):
        assert not [name for name, imports in modules(package).items() if "torch" in imports]


def test_at_most_ten_files_lie_directly_in_data():
    assert len(list((ROOT / "data").glob("*.py"))) <= 10


def test_the_entry_stays_short():
    assert len((ROOT / "train.py").read_text().splitlines()) < 90
