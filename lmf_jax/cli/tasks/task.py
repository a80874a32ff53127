"""The interface of a task: all that training and the commands on runs use of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lmf_jax.config import Config, ResolvedConfig
from lmf_jax.distributed.devices import Variables, divisible_batch_size
from lmf_jax.training.program import Program


@runtime_checkable
class Predict(Protocol):
    """Predict image files with a run and write the predictions."""

    def __call__(self, run_dir: str, images: str, output: str, *, overwrite: bool) -> None:
        """Predict ``images`` and write to ``output``."""


@dataclass(frozen=True)
class Task:
    """The functions of a task: inputs, program, trained model, test, table and comparison.

    The types of dataset, inputs and model are private to the task: they are only passed from one of
    its functions to another. Functions that read images import ``data``.
    """

    name: str
    """The value of ``--task``."""
    load_dataset: Callable[[Config, str | None], Any]
    """``load_dataset(config, fingerprint)`` opens the dataset and splits it; the fingerprint is
    that of a run to resume. The dataset has ``name``, ``fingerprint``, ``defaults``, ``rows`` and
    ``notes``."""
    open_inputs: Callable[[Any, ResolvedConfig, Any], Any]
    """``open_inputs(dataset, config, shard)`` opens the images; ``shard`` is the part of each batch
    that this process reads. The inputs have ``description``, ``training()`` and ``validation()``.
    """
    make_program: Callable[[ResolvedConfig, Any], Program]
    """``make_program(config, inputs)`` builds the model, the steps and the objective."""
    trained_model: Callable[[ResolvedConfig, Any, Program, Variables], Any]
    """``trained_model(config, inputs, program, variables)`` is the model of a run that just ended.
    """
    load_model: Callable[[str | Path], Any]
    """``load_model(run_dir)`` reads the model of a run; it has ``config`` and ``dataset``."""
    test: Callable[[Any, Path, Any], dict[str, Any]]
    """``test(model, run_dir, inputs)`` writes the test results into the run folder and returns the
    contents of ``test.json``; in all processes but the first, nothing."""
    summarize: Callable[[Any, Any, str], dict[str, Any]]
    """``summarize(model, inputs, part)`` returns the metrics of a part of the data."""
    format_table: Callable[[dict[str, Any], Any, str], str]
    """``format_table(results, inputs, part)`` formats metrics for the terminal."""
    read_run: Callable[[str | Path], Any]
    """``read_run(run_dir)`` reads the files of a finished run."""
    compare: Callable[[Sequence[str]], str]
    """``compare(run_dirs)`` returns the tables of a comparison of runs."""
    predict: Predict

    def inputs_of_run(self, model: Any, data_dir: str | Path | None = None) -> Any:
        """Open the inputs that a run was trained with.

        Args:
            model: From ``load_model``.
            data_dir: The folder of prepared datasets (default: that of the run).

        Raises:
            UserError: If the data are missing, or differ from those of the run.
        """
        from data.splits.dataset import check_is_of_run

        config, fingerprint = model.config, model.dataset["fingerprint"]
        config = config.replace(
            data_dir=str(data_dir or config.data.data_dir),
            batch_size=divisible_batch_size(config.training.batch_size),
        )
        dataset = self.load_dataset(config, fingerprint)
        check_is_of_run(dataset.name, dataset.fingerprint, fingerprint)
        return self.open_inputs(dataset, config, None)
