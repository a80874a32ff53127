"""Several processes on one machine, connected as on a cluster."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.meeting import WITHOUT_CACHE, free_port

ROOT = Path(__file__).parent.parent.parent

MEET = """
import sys
from lmf_jax.cli.command_line import parse_config
from lmf_jax.errors import UserError, run_command
from lmf_jax.runs import folder as run_folder
from lmf_jax.distributed.initialize import initialize

def main():
    config = parse_config(sys.argv[1:]).resolve({})
    initialize(config.run)
    import jax
    run_folder.SHARED_DISK_SECONDS = 1
    run_folder.open_run(config, {"name": "made up"})
    print(jax.process_index(), jax.process_count(), jax.config.read("jax_cuda_visible_devices"))
    run_folder.open_run(config, {"name": "made up"})

run_command("train.py", main)
"""


def meet(flags, environments) -> list[tuple[int, str, str]]:
    """Start a process for each; return exit codes, and what was printed on output and error."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", MEET, *words],
            cwd=ROOT,
            env=os.environ | WITHOUT_CACHE | {"XLA_FLAGS": ""} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words, environment in zip(flags, environments, strict=True)
    ]
    printed = [process.communicate(timeout=120) for process in started]
    return [(p.returncode, *texts) for p, texts in zip(started, printed, strict=True)]


def test_slurm_alone_says_who_is_who_and_which_gpu_is_whose(tmp_path):
    # JAX takes the port that the job's number falls on.
    job = str(free_port(61440, 65535) - 61440)
    environments = [
        {
            "SLURM_JOB_ID": job,
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": "2",
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": str(number),
        }
        for number in range(2)
    ]
    flags = ["--distributed", "auto", "--run-dir", str(tmp_path / "run")]
    for number, (code, output, error) in enumerate(meet([flags, flags], environments)):
        assert f"{number} 2 {number}" in output.splitlines(), error
        # The second time the folder is there, which all of them are told.
        assert (code, f"{tmp_path}/run exists; give another --run-dir" in error) == (2, True), error


def test_a_run_folder_that_not_all_processes_see_is_refused_by_all(tmp_path):
    address = f"localhost:{free_port()}"
    flags = [
        f"--distributed auto --coordinator-address {address} --num-processes 2 "
        f"--process-id {number} --run-dir {tmp_path}/{number}/run".split()
        for number in range(2)
    ]
    for code, output, error in meet(flags, [{}, {}]):
        assert code == 2, output
        assert "is not visible to all others; give a --run-dir on a disk" in error
