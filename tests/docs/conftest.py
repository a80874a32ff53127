"""The loss and the architecture of docs/extending.md as files, and tiny runs of them."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import train as entry
from lmf_jax.config import Config
from lmf_jax.losses import registry as losses
from lmf_jax.models import registry as models

DOCS = Path(__file__).parents[2] / "docs"
MODULES = {"my_loss": "A new loss", "my_model": "A new architecture"}
"""Files of docs/extending.md by the headings of their sections."""


def documented_code(section: str) -> str:
    """Return the first Python block of a section of docs/extending.md."""
    page = (DOCS / "extending.md").read_text()
    return re.search(rf"## {section}\n.*?```python\n(.*?)```", page, re.DOTALL)[1]


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Save the documented files in a folder that can be imported from."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name, section in MODULES.items():
        (folder / f"{name}.py").write_text(documented_code(section))
    monkeypatch.setattr(losses, "_LOSSES", dict(losses._LOSSES))
    monkeypatch.setattr(models, "_MODELS", dict(models._MODELS))
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def tiny_train(
    own_files: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Config], entry.Run]:
    """Let ``train`` train the documented architecture for one epoch, in a temporary folder."""
    import my_model  # noqa: F401

    full = entry.train

    def train(config: Config) -> entry.Run:
        tiny = {"model": "small-net", "epochs": 1, "batch_size": 64, "data_dir": str(data_dir)}
        return full(config.replace(**tiny, run_dir=config.run.run_dir or str(tmp_path / "run")))

    monkeypatch.setattr(entry, "train", train)
    monkeypatch.chdir(tmp_path)
    os.environ.setdefault("MPLBACKEND", "Agg")
    return train
