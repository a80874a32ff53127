"""Installation: the packages that are needed, the wheel, the console script and the version."""

import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

import lmf_jax
from lmf_jax.evaluation import report
from lmf_jax.extras import MissingPackageError, extra_packages

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITHOUT_PACKAGES = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = ["lmf-jax", *{arguments!r}]
{code}
"""
RUN = "from lmf_jax.__main__ import run; run()"


def python_without(missing, code, *arguments):
    """Run code in a new process in which some packages are not installed."""
    code = WITHOUT_PACKAGES.format(missing=missing, arguments=arguments, code=code)
    return run([sys.executable, "-c", code])


def run(command, **settings):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | settings.pop("environment", {})
    return subprocess.run(
        [*map(str, command)], env=environment, capture_output=True, text=True, **settings
    )


def names(requirements):
    return {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}


def test_a_plain_install_needs_four_packages() -> None:
    assert names(PROJECT["dependencies"]) == {"jax", "jaxtyping", "numpy", "scipy"}


def test_the_version_is_that_of_the_package_and_the_newest_in_the_changelog() -> None:
    assert PROJECT["dynamic"] == ["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    assert versions[0] == lmf_jax.__version__


@pytest.mark.parametrize("missing", [(), ("flax", "tyro")])
def test_the_console_script_prints_its_version(missing) -> None:
    result = python_without(missing, RUN, "--version")
    assert (result.returncode, result.stdout) == (0, f"lmf-jax {lmf_jax.__version__}\n")


def test_the_help_names_every_command() -> None:
    result = python_without((), RUN, "--help")
    assert result.returncode == 0
    for word in ("lmf-jax", "evaluate", "predict", "explain", "compare", "card", "--version"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("package", "missing"), [("lmf_jax.models", "flax"), ("data", "grain"), ("data", "PIL")]
)
def test_an_import_names_the_extra_in_its_last_line(package, missing) -> None:
    result = python_without((missing,), f"import {package}")
    assert result.stderr.splitlines()[-1] == (
        f"lmf_jax.extras.MissingPackageError: {package} needs the package {missing}, which is not "
        "installed; run pip install 'lmf-jax[train]', or pip install -e '.[train]' in the checkout."
    )
    caught = f"try:\n    import {package}\nexcept ImportError as error:\n    print(error.name)"
    assert python_without((missing,), caught).stdout == f"{missing}\n"


def test_the_losses_and_metrics_need_none_of_the_extras() -> None:
    modules = ("lmf_jax.losses", "lmf_jax.evaluation")
    extra = ("flax", "optax", "orbax", "grain", "absl", "sklearn", "PIL", "pooch", "requests")
    extra += ("safetensors", "h5py", "tyro", "tqdm", "matplotlib", "jinja2", "tensorboardX")
    result = python_without(extra, f"import {', '.join(modules)}")
    assert result.returncode == 0, result.stderr


def test_a_command_without_its_packages_is_one_sentence() -> None:
    result = python_without(("tyro",), RUN, "compare", "a", "b")
    assert result.returncode == 2
    assert result.stderr == (
        "lmf-jax: This command needs the package tyro, which is not installed; run pip install "
        "'lmf-jax[train]', or pip install -e '.[train]' in the checkout.\n"
    )


@pytest.mark.parametrize(
    ("missing", "needed_by"), [("grain", "data"), ("tyro", "Training"), ("orbax", "Training")]
)
def test_training_without_its_packages_is_one_sentence(missing, needed_by) -> None:
    code = "import runpy; runpy.run_path('train.py', run_name={!r})"
    result = python_without((missing,), code.format("__main__"), "--epochs", "1")
    sentence = (
        f"{needed_by} needs the package {missing}, which is not installed; run pip install "
        "'lmf-jax[train]', or pip install -e '.[train]' in the checkout.\n"
    )
    assert (result.returncode, result.stderr) == (2, f"train.py: {sentence}")
    assert result.stdout == ""
    imported = python_without((missing,), code.format("train"))
    assert imported.stderr.endswith(f"MissingPackageError: {sentence}")


def test_a_report_without_its_packages_names_the_extra(tmp_path, monkeypatch) -> None:
    def write_without_figures(run_dir):
        raise ModuleNotFoundError("No module named 'matplotlib.style'", name="matplotlib.style")

    monkeypatch.setattr(report, "read_record", lambda run_dir: {})
    monkeypatch.setattr(report, "task_of", lambda record: "classification")
    monkeypatch.setattr(report, "REPORT_WRITERS", {"classification": write_without_figures})
    with pytest.raises(MissingPackageError, match="write_report needs the package matplotlib, "):
        report.write_report(tmp_path)


@pytest.mark.parametrize("name", ["lmf_jax.none", "data.none", "data"])
def test_a_missing_module_of_the_checkout_is_in_no_extra(name) -> None:
    with (
        pytest.raises(ModuleNotFoundError, match="No module named") as caught,
        extra_packages("train", needed_by="lmf-jax"),
    ):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    assert not isinstance(caught.value, MissingPackageError)


def test_a_command_that_reads_images_names_the_checkout() -> None:
    code = "from lmf_jax.cli import predict; predict.common_task = lambda run: 'classification'\n"
    code += "predict.load_predictor = lambda *arguments: None\n"
    result = python_without(("data",), code + RUN, "predict", ".", "x.png", "--output", "x.csv")
    assert result.returncode == 2
    assert result.stderr.startswith("lmf-jax: predict reads images with the package data of the ")
    assert result.stderr.count("\n") == 1


def test_an_editable_install_finds_the_data_and_training_from_any_folder(tmp_path) -> None:
    code = "import data, train; print(data.__file__, train.__file__)"
    result = run([sys.executable, "-c", code], cwd=tmp_path, environment={"PYTHONPATH": ""})
    assert result.returncode == 0, result.stderr
    assert "/data/__init__.py" in result.stdout and "/train.py" in result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(command, check=True)
    [path] = folder.glob("lmf_jax-*.whl")
    return zipfile.ZipFile(path)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel) -> None:
    folders = {name.partition("/")[0] for name in wheel.namelist()}
    assert folders == {"lmf_jax", f"lmf_jax-{lmf_jax.__version__}.dist-info"}
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "lmf_jax").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= set(wheel.namelist())


@pytest.mark.slow
def test_a_plain_install_serves_the_losses(wheel, tmp_path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "--quiet", wheel.filename], check=True)
    bare = {"cwd": tmp_path, "environment": {"PYTHONPATH": ""}}
    listed = run([programs / "pip", "list", "--format=freeze"], **bare).stdout
    assert len(names(listed.splitlines()) - {"pip", "setuptools", "lmf-jax"}) < 10
    code = "from lmf_jax import lmf_loss; from jax import numpy as np; "
    code += "print(lmf_loss(np.eye(3), np.arange(3), np.full(3, 0.2)).shape)"
    assert run([programs / "python", "-c", code], **bare).stdout == "(3,)\n"
    version = run([programs / "lmf-jax", "--version"], **bare)
    assert version.stdout == f"lmf-jax {lmf_jax.__version__}\n"
    refused = run([programs / "lmf-jax", "compare", "a", "b"], **bare)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "pip install 'lmf-jax[train]'" in refused.stderr
