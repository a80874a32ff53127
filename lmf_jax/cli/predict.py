"""``python -m lmf_jax predict RUN IMAGE|FOLDER|LIST --output PATH``: classes or masks."""

from lmf_jax.cli.members import cost_line, load_predictor
from lmf_jax.cli.predict_options import Predict
from lmf_jax.cli.tasks import TASKS
from lmf_jax.runs.files import common_task
from lmf_jax.runs.folds import member_dirs


def run_predict(options: Predict) -> None:
    """Predict every image and write the result; name images that could not be decoded."""
    task = TASKS[common_task(options.run_dirs)]
    task.predict(load_predictor(task, options.run_dirs, options.tta), options)
    num_models = len(member_dirs(options.run_dirs))
    if num_models > 1 or options.tta != "none":
        print(cost_line(num_models, options.tta))
