"""External tests: ``evaluate RUN --dataset OTHER`` tests a run on another dataset."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmf_jax.cli.subgroup_columns import subgroup_columns
from lmf_jax.cli.tasks.task import Task
from lmf_jax.errors import UserError
from lmf_jax.evaluation import write_report


def run_external_test(
    task: Task,
    model: Any,
    run_dirs: Sequence[str],
    name: str,
    *,
    class_map: str,
    where: str | None,
    subgroups: str,
    data_dir: str | None,
    facts: Mapping[str, Any],
) -> None:
    """Test a model on another dataset, without the images that it has seen in training.

    Args:
        task: The task of the runs.
        model: The model of the runs.
        run_dirs: The folders of the runs; the results go into the first.
        name: Name of the other dataset.
        class_map: Classes of the other dataset with another name, as given by ``--map``.
        where: Condition on the metadata of the images; None takes all.
        subgroups: Columns of the metadata whose subgroups are printed, separated by commas.
        data_dir: Folder of prepared datasets (default: that of the run).
        facts: Further entries of ``external.json``.

    Raises:
        UserError: If the dataset or its classes do not fit, it lacks a column, or no image is left.
    """
    from data.inputs.external import parse_class_map, without_rows
    from data.names import parse_name
    from lmf_jax.output_files import file_name

    mapping = parse_class_map(class_map)
    inputs = task.open_external(model, name, mapping, data_dir)
    if where is not None:
        inputs = replace(inputs, dataset=inputs.dataset.select("test", where))
    columns = subgroup_columns(subgroups, inputs.dataset)
    for line in inputs.dataset.metadata_notes:
        print(line)
    leakage, leaked = _find_leakage(task, model, inputs, data_dir)
    sentence = _leakage_sentence(leakage, len(inputs.dataset.rows["test"]))
    print(textwrap.fill(sentence, 80, break_long_words=False))
    if len(leaked):
        inputs = without_rows(inputs, leaked)
    averaged = len(model.members) * len(model.views)
    label = parse_name(name).label + (f"-{where}" if where else "")
    label += f"-mean-of-{averaged}" if averaged > 1 else ""
    folder = Path(run_dirs[0]) / "external" / file_name(label.replace("/", "-"))
    known = {
        **facts,
        "dataset": name,
        "fingerprint": inputs.dataset.fingerprint,
        "map": mapping,
        "where": where,
        "predictions_per_image": averaged,
        "runs": [str(run_dir) for run_dir in run_dirs],
        "leakage": leakage,
    }
    print(task.test_external(model, Path(run_dirs[0]), folder, inputs, known))
    if columns:
        print(f"\n{task.format_subgroups(folder, len(inputs.dataset.rows['test']), columns)}\n")
    print(f"written to {folder}; report: {write_report(run_dirs[0])}")


def _find_leakage(
    task: Task, model: Any, inputs: Any, data_dir: str | None
) -> tuple[dict[str, Any], Any]:
    """Return the record of the leakage and the rows of the images that leak."""
    from data.audit.leakage import find_leakage

    try:
        own = [task.dataset_of_run(member, data_dir) for member in model.members]
    except UserError as error:
        return {"checked": False, "reason": str(error)}, ()
    leakage = find_leakage(own, inputs.dataset)
    return {"checked": True, **leakage.record}, leakage.rows


def _leakage_sentence(leakage: Mapping[str, Any], num_images: int) -> str:
    if not leakage["checked"]:
        return f"Leakage from the training images was not checked: {leakage['reason']}"
    if not leakage["images"]:
        return (
            f"{num_images:,} images; none has a lesion, patient or picture of the images that the "
            "run was trained or selected on."
        )
    return (
        f"{leakage['images']:,} of {num_images:,} images were seen in training and are left out: "
        f"{leakage['same_group']:,} of a lesion or patient in training or validation, "
        f"{leakage['identical']:,} with the same picture, {leakage['near_identical']:,} with "
        "nearly the same."
    )
