"""The sweep of alpha and beta, Table 6 and Fig. 4: ``python -m benchmarks.paper_sweep``.

Three settings of eleven models each: alpha = beta; beta with alpha = 1; alpha with beta = 1. Their
common model is trained once. Optuna keeps the study in a journal or a database; any number of
workers, on any number of machines with a common --runs-dir, may run the same command. The weights
are chosen by validation macro F1; only the chosen model is tested.

The runs follow the released recipe unless a flag changes it (:mod:`benchmarks.paper.recipe`), and
differences from the paper are printed. Adam is invariant to the scale of the loss: in the first
setting, alpha only changes the relative weight of the coupled L2. With ``--no-released-recipe``,
AdamW, that setting trains one model eleven times, up to rounding.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import tyro

from benchmarks.paper import printed
from benchmarks.paper.figures import draw_settings, mean_and_deviation
from benchmarks.paper.options import ModelName, RecipeOptions
from benchmarks.paper.recipe import (
    DIFFERS,
    SWEEP_EPOCHS,
    bullets,
    differences_from_paper,
)
from benchmarks.paper.reproduced import Group, read_group
from benchmarks.paper.rows import Row, percent
from benchmarks.record import record, table
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.errors import TrainingStopped, UserError, run_command
from lmf_jax.evaluation.figures import save_figure

Weights = tuple[float, float]
"""Alpha and beta."""

VALUES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5, 2.0)
"""Eleven values from 0.5 to 2.0. The paper says that they are eleven, and names these ends, 0.7
and, in Table 6, six more: 0.6, 1.0, 1.1, 1.2, 1.3 and 1.5."""

SETTINGS: Mapping[str, tuple[Weights, ...]] = {
    "1: alpha = beta": tuple((value, value) for value in VALUES),
    "2: beta varies, alpha = 1": tuple((1.0, value) for value in VALUES),
    "3: alpha varies, beta = 1": tuple((value, 1.0) for value in VALUES),
}
"""The settings, by what varies in them: Sadi et al., "Analysis of LMF loss hyperparameters"."""


@dataclass(frozen=True)
class Options(RecipeOptions):
    """Sweep alpha and beta of lmf."""

    model: ModelName = "efficientnet_v2_s"
    """The architecture (paper: efficientnet_v2_s)."""
    epochs: int | None = SWEEP_EPOCHS
    """Epochs of a run (paper: 60)."""
    seed: int = 0
    """Seed of the training."""
    storage: str = ""
    """The storage of Optuna: a database such as sqlite:///FILE, or the path of a journal, which is
    safer on network file systems (default: a journal in --runs-dir)."""


def main() -> None:
    """Train missing runs, then print and record the results."""
    options = parse_in_one_line(lambda: tyro.cli(Options), [Options])
    if importlib.util.find_spec("optuna") is None:
        raise UserError("Optuna is not installed; get it with: pip install -e '.[paper]'")
    from benchmarks.paper.study import Sweep

    jax.config.update("jax_platforms", "cpu")  # the GPU belongs to the training
    recipe = options.recipe
    storage = options.storage or str(recipe.runs_dir / "paper_sweep.journal")
    sweep = Sweep(storage, recipe, options.seed, grid())
    sweep.work()
    scores = sweep.scores()
    if scores:
        weights = max(scores, key=lambda weights: scores[weights])
        chosen = read_group("lmf", weights, {options.seed: sweep.run(weights)})
        assert chosen is not None
        write_results(options, scores, chosen)
    missing = len(grid()) - len(scores)
    if missing:
        raise TrainingStopped(f"{missing} of {len(grid())} runs failed; run the command again.")


def grid() -> list[Weights]:
    """Return the weights of all settings, each pair once."""
    return list(dict.fromkeys(weights for points in SETTINGS.values() for weights in points))


def write_results(options: Options, scores: Mapping[Weights, float], chosen: Group) -> None:
    """Print the tables, and write them as JSON, with Fig. 4 as PNG.

    Args:
        options: The options.
        scores: The best validation macro F1 of each pair of weights, as a fraction.
        chosen: The run with the highest score.
    """
    recipe, settings = options.recipe, setting_scores(scores)
    config = chosen.runs[options.seed].config
    differences = differences_from_paper(config, seeds=[options.seed], epochs=SWEEP_EPOCHS)
    print(f"\n{DIFFERS}\n\n{bullets(differences)}\n")
    rows = [
        {"alpha": alpha, "beta": beta, "validation macro F1": score}
        for (alpha, beta), score in scores.items()
    ]
    path = record(
        "paper_sweep",
        rows,
        place="-".join((recipe.dataset, recipe.model, recipe.settings_name)),
        differences_from_paper=differences,
        settings=settings,
        chosen=table_6(options, chosen),
    )
    save_figure(draw_settings(settings), path.with_suffix(".png"))
    print(f"\n{table(setting_rows(scores))}\n\n{table(table_6(options, chosen))}")


def setting_scores(scores: Mapping[Weights, float]) -> dict[str, list[float]]:
    """Return the validation macro F1 of the runs of each setting, in percent.

    Args:
        scores: The score of each pair of weights, as a fraction; a setting without any is left out.
    """
    percents = {
        name: [100 * scores[weights] for weights in points if weights in scores]
        for name, points in SETTINGS.items()
    }
    return {name: values for name, values in percents.items() if values}


def setting_rows(scores: Mapping[Weights, float]) -> list[Row]:
    """Return the values of Fig. 4, and the best weights of each setting."""
    rows = []
    for name, values in setting_scores(scores).items():
        middle, deviation = mean_and_deviation(values)
        best = max((w for w in SETTINGS[name] if w in scores), key=lambda w: scores[w])
        row = {"setting": name, "runs": str(len(values)), "mean macro F1": f"{middle:.2f}"}
        row |= {"average deviation": f"{deviation:.2f}", "best": f"{100 * scores[best]:.2f}"}
        rows.append(row | {"of alpha, beta": "{:g}, {:g}".format(*best)})
    return rows


def table_6(options: Options, chosen: Group) -> list[Row]:
    """Return the rows of Table 6, with the test metrics of the chosen weights.

    Args:
        options: The options.
        chosen: The run with the highest validation score.
    """
    assert chosen.weights is not None
    alpha, beta = printed.best_weights()[options.dataset, options.printed_model]
    known = printed.scores()[options.dataset, options.printed_model, "lmf"]
    shared = {"dataset": printed.DATASETS[options.dataset], "model": options.model}
    ours = dict(zip(("alpha", "beta"), map(str, chosen.weights), strict=True))
    ours["validation macro F1"] = f"{100 * chosen.validation_macro_f1:.2f}"
    ours["test macro F1"] = percent(chosen.score("macro_f1"))
    theirs = {"alpha": str(alpha), "beta": str(beta), "validation macro F1": ""}
    theirs["test macro F1"] = f"{known.macro_f1:.2f}"
    return [shared | {"from": "ours"} | ours, shared | {"from": "printed"} | theirs]


if __name__ == "__main__":
    run_command("benchmarks.paper_sweep", main)
