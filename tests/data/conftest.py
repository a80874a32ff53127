from pathlib import Path

import pytest

from data import Dataset, load_dataset
from data.prepared.prepare_volumes import prepare_volumes
from tests.helpers.volume_downloads import make_brats20, make_kits19


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def digits(data_dir: Path) -> Dataset:
    return load_dataset("digits_lt", data_dir=data_dir)


@pytest.fixture
def real_data():
    """Find a folder of the real data that may lie beside the checkout; skip where it does not."""

    def find(folder: str) -> Path:
        path = Path(__file__).parents[3] / "shared" / "data" / folder
        if not path.is_dir():
            pytest.skip(f"needs {folder} in shared/data beside the checkout")
        return path

    return find


@pytest.fixture(scope="session")
def volume_downloads(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    raw = tmp_path_factory.mktemp("raw")
    return {
        "kits19": make_kits19(raw / "kits19", 8, spacing=(2.3, 0.9, 0.9)),
        "brats20": make_brats20(raw / "brats20", 8),
    }


@pytest.fixture(scope="session")
def volumes_dir(volume_downloads, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of prepared volumes, which no test changes."""
    folder = tmp_path_factory.mktemp("volumes")
    for name, raw in volume_downloads.items():
        prepare_volumes(name, raw, folder)
    return folder
