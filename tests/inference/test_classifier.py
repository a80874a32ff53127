"""A run without the settings of its model is refused before its weights are read."""

import json

import pytest

from lmf_jax.config import Config
from lmf_jax.errors import UserError
from lmf_jax.inference.classifier import load_classifier
from lmf_jax.runs.folder import open_run

DATASET = {
    "name": "own",
    "fingerprint": "abc",
    "class_names": ["zero", "one"],
    "class_counts": {"train": [9, 3], "validation": [2, 1], "test": [2, 1]},
}


@pytest.mark.parametrize("name", ["image_size", "batch_size"])
def test_a_setting_that_is_left_open_is_said(name, tmp_path):
    config = Config.of(image_size=32, batch_size=8, run_dir=str(tmp_path / "run")).resolve({})
    path = open_run(config, DATASET) / "config.json"
    record = json.loads(path.read_text())
    del record["config"][name]
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"The settings of the run lack {name}"):
        load_classifier(tmp_path / "run")
