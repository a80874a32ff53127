"""The interface of a task: all that training and the commands on runs use of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmf_jax.cli.predict_options import Predict
from lmf_jax.config import Config, ResolvedConfig
from lmf_jax.distributed.devices import Batch, Variables, divisible_batch_size
from lmf_jax.evaluation.calibration import Method
from lmf_jax.evaluation.operating.point import ClassPart
from lmf_jax.inference.views import View
from lmf_jax.training.program import Program


@dataclass(frozen=True)
class Task:
    """The functions of a task: inputs, program, trained model, test, table and comparison.

    The types of dataset, inputs and model are private to the task: they are only passed from one of
    its functions to another. Functions that read images import ``data``.
    """

    name: str
    """The value of ``--task``."""
    load_dataset: Callable[[Config, Mapping[str, Any] | None], Any]
    """``load_dataset(config, recorded)`` opens the dataset and splits it; ``recorded`` is the
    description of the data of a run to resume. The dataset has ``name``, ``fingerprint``,
    ``defaults``, ``rows`` and ``notes``."""
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
    ensemble: Callable[[tuple[Any, ...], Sequence[View]], Any]
    """``ensemble(models, views)`` averages models over views; it has the interface of a model."""
    calibrate: Callable[[Any, Path, Any, Method | None], Any]
    """``calibrate(model, run_dir, inputs, method)`` predicts the validation part, writes the
    predictions into the run folder, and returns the model with calibrated probabilities. Without a
    method, it keeps that of the run."""
    test: Callable[[Any, Path, Any], dict[str, Any]]
    """``test(model, run_dir, inputs)`` writes the test results of a calibrated model into the run
    folder and returns the contents of ``test.json``, and under ``calibration`` those of
    ``calibration.json``; in all processes but the first, nothing."""
    summarize: Callable[[Any, Any, str], dict[str, Any]]
    """``summarize(model, inputs, part)`` returns the metrics of a part of the data."""
    format_table: Callable[[dict[str, Any], Any, str], str]
    """``format_table(results, inputs, part)`` formats metrics for the terminal."""
    read_run: Callable[[str | Path], Any]
    """``read_run(run_dir)`` reads the files of a finished run."""
    open_external: Callable[[Any, str, Mapping[str, str], str | None], Any]
    """``open_external(model, name, class_map, data_dir)`` opens all images of another dataset as
    inputs with a test part."""
    test_external: Callable[[Any, Path, Path, Any, Mapping[str, Any]], str]
    """``test_external(model, run_dir, folder, inputs, facts)`` tests on another dataset, writes the
    results into the folder ``external/<name>`` of the run, and returns a text for the terminal."""
    compare: Callable[[Sequence[str]], str]
    """``compare(run_dirs)`` returns the tables of a comparison of runs."""
    join_folds: Callable[[Path], Any]
    """``join_folds(run_dir)`` writes the joint results of a cross-validation into its folder."""
    format_folds: Callable[[Any], str]
    """``format_folds(run)`` formats the joint results of a finished run for the terminal."""
    explain: Callable[[Any, Batch], Sequence[Sequence[tuple[int, float, Any]]]] | None
    """``explain(model, batch)`` returns, for each image, the index, the probability and the
    Grad-CAM map of every class or label to show; None if the task has no such maps."""
    predict: Callable[[Any, Predict], None]
    """``predict(model, options)`` predicts image files and writes the predictions."""
    class_parts: Callable[[Any, int], tuple[ClassPart, ClassPart]] | None
    """``class_parts(run, index)`` returns the validation and the test part of a finished run from
    the view of one class or label; None if images have neither."""
    format_subgroups: Callable[[Path, int, Sequence[str]], str]
    """``format_subgroups(folder, num_tested, columns)`` formats the subgroups of a test, of which
    the folder is that of a run or of a test on another dataset, by columns of the metadata."""

    def inputs_of_run(self, model: Any, data_dir: str | Path | None = None) -> Any:
        """Open the inputs that a run was trained with.

        Args:
            model: From ``load_model``.
            data_dir: The folder of prepared datasets (default: that of the run).

        Raises:
            UserError: If the data are missing, or differ from those of the run.
        """
        config = model.config.replace(
            data_dir=str(data_dir or model.config.data.data_dir),
            batch_size=divisible_batch_size(model.config.training.batch_size),
        )
        return self.open_inputs(self.dataset_of_run(model, data_dir), config, None)

    def dataset_of_run(self, model: Any, data_dir: str | Path | None = None) -> Any:
        """Open the dataset that a run was trained with, without decoding its images.

        Arguments and exceptions are those of :meth:`inputs_of_run`.
        """
        from data.splits.dataset import check_is_of_run

        fingerprint = model.dataset["fingerprint"]
        config = model.config.replace(data_dir=str(data_dir or model.config.data.data_dir))
        dataset = self.load_dataset(config, model.dataset)
        check_is_of_run(dataset.name, dataset.fingerprint, fingerprint)
        return dataset
