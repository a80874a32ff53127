from pathlib import Path

import pytest

from data import Dataset, load_dataset


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def digits(data_dir: Path) -> Dataset:
    return load_dataset("digits_lt", data_dir=data_dir)


@pytest.fixture
def real_data():
    """Finds a folder of the real data that may lie beside the checkout; skips where it does not."""

    def find(folder: str) -> Path:
        path = Path(__file__).parents[3] / "shared" / "data" / folder
        if not path.is_dir():
            pytest.skip(f"needs {folder} in shared/data beside the checkout")
        return path

    return find
