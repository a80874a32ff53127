"""Every folder of data/datasets declares one dataset, which costs little to import."""

import subprocess
import sys
from pathlib import Path

import pytest

from data.registry import DatasetSpec, datasets_of_kind, find_dataset, registered_datasets
from lmf_jax.cli.command_line import parse_config

FOLDERS = Path(__file__).parents[2] / "data" / "datasets"


def test_every_folder_is_a_dataset() -> None:
    assert set(registered_datasets()) == {
        path.parent.name for path in FOLDERS.glob("*/__init__.py")
    }


def test_datasets_are_ordered_by_kind_and_name() -> None:
    assert datasets_of_kind("embedded") == ("digits_lt", "digits_masks", "digits_multilabel")
    assert datasets_of_kind("volumes") == ("brats20", "kits19")
    assert datasets_of_kind("own", "volumes") == (
        *("brats20", "kits19"),
        *("folder", "manifest", "manifest_multilabel", "medmnist", "medmnist_multilabel", "pairs"),
    )


@pytest.mark.parametrize("spec", registered_datasets().values(), ids=lambda spec: spec.name)
def test_a_specification_is_complete(spec: DatasetSpec) -> None:
    is_own = spec.kind in ("own", "own-volumes")
    assert bool(spec.paths) == is_own == spec.form.startswith(f"{spec.name}:")
    assert spec.published is None or callable(spec.published) or spec.published.source
    assert spec.summary and not spec.summary.endswith(".")
    parse_config(["--task", spec.task]).resolve(spec.defaults)


def test_a_path_is_no_part_of_the_name_of_a_dataset() -> None:
    assert find_dataset("folder:/some/where") is registered_datasets()["folder"]
    assert find_dataset("directory:/some/where") is None


def test_a_folder_may_not_declare_the_dataset_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    import data.datasets.kits19

    registered_datasets.cache_clear()
    monkeypatch.setattr(data.datasets.kits19, "DATASET", registered_datasets()["brats20"])
    registered_datasets.cache_clear()
    with pytest.raises(
        ValueError, match="kits19 declares the dataset 'brats20'; expected the name"
    ):
        registered_datasets()
    monkeypatch.undo()
    assert "kits19" in registered_datasets()


def test_specifications_load_no_large_package() -> None:
    """Seen without ``data/__init__.py``, which loads much of the input side."""
    heavy = ("tensorflow_datasets", "scipy", "nibabel", "sklearn", "jax", "grain", "PIL")
    code = f"""
import sys, types
package = types.ModuleType("data")
package.__path__ = ["data"]
sys.modules["data"] = package
from data.registry import registered_datasets
assert len(registered_datasets()) >= 14
print([name for name in {heavy} if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=FOLDERS.parents[1], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
