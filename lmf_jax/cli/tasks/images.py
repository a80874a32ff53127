"""Functions that the tasks with labels of whole images share."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from lmf_jax.config import ResolvedConfig
from lmf_jax.evaluation.members import format_members
from lmf_jax.evaluation.predictions import Predictions

CompareMembers = Callable[..., dict[str, Any] | None]
"""``compare_members(labels, probabilities, groups)`` compares an ensemble with its members."""


def open_inputs(dataset: Any, config: ResolvedConfig, shard: Any) -> Any:
    """Open the images of a dataset, see ``Task.open_inputs``."""
    from data.inputs.classification import open_classification

    return open_classification(dataset, config, shard)


def metadata_widths(inputs: Any) -> tuple[int, ...]:
    """Return the number of features of each column of the metadata that the model reads."""
    encoding = inputs.dataset.encoding
    return encoding.widths if encoding else ()


def predict_part(model: Any, inputs: Any, part: str) -> Predictions:
    """Predict the images of one part of the data by one model."""
    logits, labels = model.predict(inputs.batches(part))
    return _predictions(inputs, part, labels, logits)


def predict_ensemble(
    model: Any,
    inputs: Any,
    part: str,
    to_logits: Callable[[Float[np.ndarray, "n classes"]], Float[np.ndarray, "n classes"]],
    compare_members: CompareMembers,
) -> tuple[Predictions, dict[str, Any]]:
    """Predict the images of one part of the data by the mean probabilities of several models.

    Args:
        model: An ensemble of one or more models.
        inputs: The images.
        part: Name of the part.
        to_logits: Returns the logits of probabilities.
        compare_members: Compares the ensemble with its members.

    Returns:
        The predictions, and under ``members`` the comparison; nothing there without one.
    """
    inputs = replace(inputs, dataset=replace(inputs.dataset, encoding=model.encoding))
    probabilities, labels = model.predict_members(inputs.batches(part))
    predictions = _predictions(inputs, part, labels, to_logits(probabilities.mean(axis=0)))
    if len(probabilities) == 1:
        return predictions, {}
    members = compare_members(labels, probabilities, predictions.groups)
    return predictions, {} if members is None else {"members": members}


def append_members(table: str, results: dict[str, Any], metric: str, title: str) -> str:
    """Append the comparison of an ensemble with its members to a table, if there is one."""
    if "members" not in results:
        return table
    return f"{table}\n{format_members(results['members'], metric, title)}"


def _predictions(inputs: Any, part: str, labels: np.ndarray, logits: np.ndarray) -> Predictions:
    dataset = inputs.dataset
    ids, groups = dataset.ids[dataset.rows[part]], dataset.groups_of(part)
    return Predictions(ids=ids, labels=labels, logits=logits, groups=groups)
