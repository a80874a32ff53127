"""``python -m lmf_jax ablate RUN``: how much a run depends on each metadata column."""

from dataclasses import dataclass, replace

import numpy as np

from lmf_jax.cli.arguments import RunDir
from lmf_jax.cli.supported_tasks import require_task
from lmf_jax.cli.tasks import TASKS
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.ablation import format_ablation, summarize_ablation
from lmf_jax.evaluation.predictions import check_finite
from lmf_jax.runs.files import CLASSIFICATION


@dataclass(frozen=True)
class Ablate:
    """Test a run without each metadata column that it gets beside the image.

    The test images are predicted again with each column missing, and with all missing. Nothing is
    written.
    """

    run: RunDir
    data_dir: str | None = None
    """The folder of prepared datasets and image caches (default: that of the run)."""


def run_ablate(options: Ablate) -> None:
    """Print the metrics with all columns, and their changes without each and without all."""
    require_task("ablate", options.run, CLASSIFICATION)
    task = TASKS[CLASSIFICATION]
    model = task.load_model(options.run)
    if model.encoding is None:
        raise UserError(
            f"The model of {options.run} gets images alone; give one trained with --metadata."
        )
    inputs = task.inputs_of_run(model, options.data_dir)

    def predict(missing: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        logits, labels = model.predict(replace(inputs, missing_columns=missing).batches("test"))
        check_finite(logits, "test")
        return logits, labels

    names = model.encoding.names
    logits, labels = predict(())
    without = {f"without {name}": predict((name,))[0] for name in names}
    if len(names) > 1:
        without["image alone"] = predict(names)[0]
    groups = inputs.dataset.groups_of("test")
    ablation = summarize_ablation(labels, logits, without, model.class_names, groups)
    print(f"{len(labels):,} test images; metadata: {', '.join(names)}\n")
    print(format_ablation(ablation))
