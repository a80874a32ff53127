"""The commands, scripts and examples of the pages are parsed and run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tyro

from benchmarks.tpu_compile import Options
from lmf_jax.cli.command_line import parse_config
from lmf_jax.cli.main import COMMANDS
from tests.models.make_golden import seeded_state_dict
from tests.models.test_torchvision_parity import stored_shapes

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "benchmarks/**/README.md", "data/**/README.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"  # names what there was
)
SCRIPTS = {"train.sbatch": "slurm.md", "train.sh": "tpu_pod.md"}
EXECUTED_IN_TESTS_DOCS = ("extending.md", "python.md", "cross_validation.md")
"""Pages whose examples train, or register a loss, a model or a dataset; tests/docs runs these."""
OTHER_TOOLS = ("-c", "venv", "uv", "sphinx")
"""After ``python`` or ``python -m``: what is not part of this project."""
OF_OTHER_TOOLS = ("slurm.md", "tpu_pod.md", "reliability.md", "CONTRIBUTING.md")
"""Pages that speak of flags of Slurm, gcloud, git and the benchmarks."""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str = "bash") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def inline_commands(page: Path) -> list[list[str]]:
    """Return the words after ``python`` of the commands that stand in a sentence."""
    sentences = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"`python ([^`]+)`", sentences)
    return [shlex.split(words) for words in found if "<name>" not in words]


def script(name: str) -> str:
    text = (DOCS / SCRIPTS[name]).read_text()
    return re.search(rf"<!-- {re.escape(name)} -->\n```bash\n(.*?)```", text, re.DOTALL)[1]


def commands(text: str, *program: str) -> list[list[str]]:
    """Return the words after each ``python`` and ``sbatch``, in quoted shell code too.

    The console script ``lmf-jax`` at the beginning of a line counts as ``python -m lmf_jax``.

    Args:
        text: Shell code.
        program: With what these words begin, which is left out; what begins otherwise is not told.
    """
    text = re.sub(r"(^|\s)#.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^lmf-jax ", "python -m lmf_jax ", text, flags=re.MULTILINE)
    words = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";&|<>()\n")
    words.whitespace, words.whitespace_split, words.commenters = " ", True, ""
    found, current = [], None
    for word in [*words, ";"]:
        if current is not None and re.fullmatch(r"[;&|<>()\n]+", word):
            found.append(current)
            current = None
        elif current is not None:
            current.append(word)
        elif " " in word:
            found += commands(word)
        elif re.fullmatch(r"(.*/)?python|sbatch", word):
            current = []
    return [words[len(program) :] for words in found if words[: len(program)] == list(program)]


def without_expansions(words: list[str]) -> list[str]:
    """Leave out what stands for any number of words."""
    return [word for word in words if word not in ("$@", "${resume[@]}")]


class Parsed(Exception):
    """The command line was taken; the command is not run."""


@pytest.fixture
def parse(monkeypatch):
    """Return a function that has a command line parsed, and no more, by the program it names."""

    def only_parse(cli):
        def parsed(*args, **kwargs):
            cli(*args, **kwargs)
            raise Parsed

        return parsed

    def run(words):
        if words[0] == "train.py":
            parse_config([word.replace("$number", "1") for word in without_expansions(words[1:])])
            return
        with monkeypatch.context() as patch, pytest.raises(Parsed):
            program = importlib.import_module(words[1])
            if hasattr(program, "__path__"):
                program = importlib.import_module(f"{words[1]}.__main__")
            patch.setattr(sys, "argv", words[1:])
            patch.setattr(tyro, "cli", only_parse(tyro.cli))
            several = tyro.extras.subcommand_cli_from_dict
            patch.setattr(tyro.extras, "subcommand_cli_from_dict", only_parse(several))
            try:
                program.main()
            finally:
                sys.modules.pop(f"{words[1]}.__main__", None)  # runpy warns of what is imported

    return run


def is_ours(words: list[str]) -> bool:
    return words[0] not in OTHER_TOOLS and (words[0] != "-m" or words[1] not in OTHER_TOOLS)


@every_page
def test_the_shell_can_read_every_command(page):
    for block in blocks(page):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@every_page
def test_every_command_in_a_block_is_parsed_by_its_program(page, parse):
    found = commands("\n".join(blocks(page)))
    for words in found:
        if words[0] in ("train.py", "-m") and is_ours(words):
            parse(words)
        else:
            assert not is_ours(words) or "train.sbatch" in words, words


@every_page
def test_every_command_in_a_sentence_has_only_flags_of_its_program(page, parse, capsys):
    for words in filter(is_ours, inline_commands(page)):
        program = words[: 3 if words[0] == "-m" and words[1] in ("data", "lmf_jax") else 2]
        if words[0] == "train.py":
            program = words[:1]
        with pytest.raises(SystemExit) as stop:
            parse([*program, "--help-all" if program == ["train.py"] else "--help"])
        assert not stop.value.code
        flags = [word for word in words if re.fullmatch(r"--[a-z-]+", word)]
        shown = f"--help-all {capsys.readouterr().out}"  # which no help names
        assert [flag for flag in flags if not re.search(rf"{flag}\b", shown)] == [], words


def test_every_flag_in_a_sentence_is_one_of_the_programs(parse, capsys):
    programs = [["train.py", "--help-all"], ["-m", "data", "prepare"], ["-m", "data", "audit"]]
    programs += [["-m", "lmf_jax", command.__name__.lower()] for command in COMMANDS]
    for program in programs:
        with pytest.raises(SystemExit):
            parse([*program, "--help"])
    known = {"--help-all", *re.findall(r"--[a-z-]+", capsys.readouterr().out)}
    for page in PAGES:
        sentences = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        spans = " ".join(re.findall(r"`[^`]*`", sentences))
        if page.name not in OF_OTHER_TOOLS and page.parent.name != "benchmarks":
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", spans)) <= known, page


def names_of_examples():
    """Return what the examples in Python do not define themselves."""
    rng = np.random.default_rng(0)
    weights = seeded_state_dict(stored_shapes("resnet50"))
    return {
        "logits": jnp.asarray(rng.normal(size=(4, 7))),
        "labels": jnp.array([0, 3, 6, 6]),
        "test_labels": np.array([0, 3, 6, 6]),
        "predictions_a": np.array([0, 3, 6, 5]),
        "predictions_b": np.array([0, 3, 1, 5]),
        "lesions": np.array(["a", "b", "c", "c"]),
        "class_counts": [4693, 779, 769, 360, 229, 100, 81],
        "map_logits": jnp.asarray(rng.normal(size=(2, 8, 8, 3))),
        "label_maps": jnp.asarray(rng.integers(3, size=(2, 8, 8))),
        "state_dict": {name: np.float32(tensor) for name, tensor in weights.items()},
    }


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in EXECUTED_IN_TESTS_DOCS],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_example_in_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    examples = blocks(page, "python")
    given = names_of_examples() if examples else {}
    for block in examples:
        exec(block, dict(given))


@pytest.mark.parametrize(("page", "count"), [("slurm.md", 5), ("tpu_pod.md", 1)])
def test_train_takes_every_command_line(page, count):
    text = "\n".join(blocks(DOCS / page))
    found = commands(text, "train.py")
    for words in found:
        words = [word.replace("$number", "1") for word in without_expansions(words)]
        assert parse_config(words).run.run_dir
    assert len(found) == count


def test_the_flags_after_sbatch_are_flags_of_train():
    text = "\n".join(blocks(DOCS / "slurm.md"))
    found = [words for words in commands(text) if "train.sbatch" in words]
    for words in found:
        flags = words[words.index("train.sbatch") + 1 :]
        assert parse_config(flags).data.dataset == "ham10000"
    assert len(found) == 2


def test_the_compilation_is_asked_for_as_the_benchmark_takes_it():
    [words] = commands("\n".join(blocks(DOCS / "tpu_pod.md")), "-m", "benchmarks.tpu_compile")
    options = tyro.cli(Options, args=words)
    assert (options.models, options.topologies) == (("resnet50",), ("v5e:4x4",))


@pytest.mark.parametrize("page", SCRIPTS.values())
def test_the_data_are_prepared_where_the_run_looks_for_them(page):
    text = "\n".join(blocks(DOCS / page))
    [words] = commands(text, "-m", "data", "prepare")
    command = importlib.import_module("data.__main__").Prepare
    del sys.modules["data.__main__"]  # other tests run it, and runpy warns if it is imported
    assert tyro.cli(command, args=words).data_dir == "/shared/data"
    assert "--data-dir /shared/data" in text.replace(shlex.join(words), "")


@pytest.fixture
def machine(tmp_path):
    """Return a home with a checkout, and programs that record their calls."""
    (tmp_path / "lmf-jax/.venv/bin").mkdir(parents=True)
    (tmp_path / "lmf-jax/.venv/bin/activate").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("srun", "scontrol", "python"):
        code = '"${CODE:-0}"' if name != "scontrol" else 0
        text = f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >> "$CALLS"\nexit {code}\n'
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return tmp_path


def run_script(name: str, machine: Path, *flags: str, code: int = 0) -> tuple[int, list[str]]:
    """Run a script of a page; return its exit code and the calls that it made."""
    calls = machine / "calls"
    calls.write_text("")
    environment = {
        "PATH": f"{machine}/programs:{os.environ['PATH']}",
        "HOME": str(machine),
        "CALLS": str(calls),
        "CODE": str(code),
        "RUNS": str(machine / "runs"),
        "SLURM_JOB_NAME": "ham-lmf",
        "SLURM_JOB_ID": "7",
        "SLURM_CPUS_PER_TASK": "8",
    }
    command = ["bash", "-u", "-c", script(name), name, *flags]
    result = subprocess.run(command, cwd=machine / "lmf-jax", env=environment)
    return result.returncode, calls.read_text().splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_resumes_where_there_is_a_run_and_only_there(name, machine):
    flags = ["--beta", "0.5"] if name == "train.sbatch" else []
    lines = []
    for _ in range(2):
        code, [line] = run_script(name, machine, *flags)
        assert code == 0
        lines.append(line)
        (machine / "runs/ham-lmf").mkdir(parents=True, exist_ok=True)
        (machine / "runs/ham-lmf/config.json").touch()
    first, second = [parse_config(line.split("train.py ")[1].split()) for line in lines]
    assert (first.run.resume, second.run.resume) == (False, True)
    assert first.run.run_dir == second.run.run_dir == str(machine / "runs/ham-lmf")
    assert (first.run.distributed, second.run.distributed) == ("auto", "auto")
    assert first.loss.beta == (0.5 if flags else 1.0)


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (1, False), (2, False), (130, False), (143, True)]
)
def test_a_job_is_requeued_after_sigterm_alone(code, requeued, machine):
    ended_with, calls = run_script("train.sbatch", machine, code=code)
    assert ended_with == code
    assert calls[0].startswith("srun --kill-on-bad-exit=1 python train.py")
    assert calls[1:] == (["scontrol requeue 7"] if requeued else [])


def test_there_is_a_process_for_each_gpu():
    said = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script("train.sbatch"), re.MULTILINE))
    assert said["ntasks-per-node"] == said["gpus-per-node"]
    assert said["signal"].startswith("TERM@"), "with B: no process of the run would get it"
