"""The examples of docs/python.md and the notebook, executed with a tiny model."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.conftest import DOCS

ROOT = DOCS.parent
NOTEBOOK = DOCS / "notebooks" / "train.ipynb"
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
[settings] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
settings.source += "\\nimport my_model\\nSETTINGS |= " + sys.argv[2]
NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
print(notebook.cells[-1].outputs)
"""


@pytest.mark.usefixtures("tiny_train")
def test_the_documented_examples_run_one_after_the_other(capsys) -> None:
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), re.DOTALL):
        exec(block, names)
    printed = capsys.readouterr().out
    assert re.search(r"^0: F1 \d\.\d{3} of \d+ images$", printed, re.MULTILINE)
    run, probabilities = names["run"], names["probabilities"]
    assert run.folder == Path("runs/lmf")
    assert probabilities.shape == (5, 10) and names["logits"].shape == (5, 10)
    scaled = run.model.config.logit_scale * np.asarray(names["logits"], np.float64)
    expected = run.model.calibrator.probabilities(scaled)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3)
    np.testing.assert_array_equal(names["results"].logits, run.results.logits)
    again = names["model"].probabilities(names["images"])
    np.testing.assert_allclose(again, probabilities, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_train")
def test_the_example_of_a_cross_validation_runs(capsys) -> None:
    [example] = re.findall(
        r"```python\n(.*?)```", (DOCS / "cross_validation.md").read_text(), re.DOTALL
    )
    names: dict = {}
    exec(example, names)
    assert len(names["run"].results.test["folds"]["each"]) == 3
    assert re.search(r"^0\.\d+ 0\.\d+$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_the_notebook_runs_and_stores_no_output(own_files, data_dir, tmp_path) -> None:
    text = NOTEBOOK.read_text()
    assert '"outputs": []' in text and '"output_type"' not in text
    tiny = {"model": "small-net", "epochs": 1, "batch_size": 64}
    tiny |= {"data_dir": str(data_dir), "run_dir": str(tmp_path / "run")}
    environment = os.environ | {"PYTHONPATH": f"{own_files}{os.pathsep}{ROOT}"}
    result = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(NOTEBOOK), repr(tiny)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "run" / "report.html").is_file()
    assert result.stdout.count(", probability ") == 2
