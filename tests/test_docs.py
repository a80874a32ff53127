"""The commands of the pages in docs/: parsed by what will parse them, and the scripts run."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tyro

from benchmarks.tpu_compile import Options
from lmf_jax.cli.command_line import parse_config

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SCRIPTS = {"train.sbatch": "slurm.md", "train.sh": "tpu_pod.md"}


def blocks(page: Path) -> list[str]:
    return re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)


def script(name: str) -> str:
    text = (DOCS / SCRIPTS[name]).read_text()
    return re.search(rf"<!-- {re.escape(name)} -->\n```bash\n(.*?)```", text, re.DOTALL)[1]


def commands(text: str, *program: str) -> list[list[str]]:
    """Return the words after each ``python`` and ``sbatch``, in quoted shell code too.

    Args:
        text: shell code.
        program: with what these words begin, which is left out; what begins otherwise is not told.
    """
    words = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=";&|<>()\n")
    words.whitespace, words.whitespace_split = " ", True
    found, current = [], None
    for word in [*words, ";"]:
        if current is not None and re.fullmatch(r"[;&|<>()\n]+", word):
            found.append(current)
            current = None
        elif current is not None:
            current.append(word)
        elif " " in word:
            found += commands(word)
        elif word.endswith("python") or word == "sbatch":
            current = []
    return [words[len(program) :] for words in found if words[: len(program)] == list(program)]


def without_expansions(words: list[str]) -> list[str]:
    """Leave out what stands for any number of words."""
    return [word for word in words if word not in ("$@", "${resume[@]}")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_shell_can_read_every_command(page):
    for block in blocks(page):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize(("page", "count"), [("slurm.md", 5), ("tpu_pod.md", 1)])
def test_train_takes_every_command_line(page, count):
    text = "\n".join(blocks(DOCS / page))
    found = commands(text, "train.py")
    for words in found:
        words = [word.replace("$number", "1") for word in without_expansions(words)]
        assert parse_config(words).run_dir
    assert len(found) == count


def test_the_flags_after_sbatch_are_flags_of_train():
    text = "\n".join(blocks(DOCS / "slurm.md"))
    found = [words for words in commands(text) if "train.sbatch" in words]
    for words in found:
        flags = words[words.index("train.sbatch") + 1 :]
        assert parse_config(flags).dataset == "ham10000"
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
    """A home with a checkout, and programs that write down how they were called."""
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
    assert (first.resume, second.resume) == (False, True)
    assert first.run_dir == second.run_dir == str(machine / "runs/ham-lmf")
    assert (first.distributed, second.distributed) == ("auto", "auto")
    assert first.beta == (0.5 if flags else 1.0)


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
