"""Figures 1, 2 and 4 of the paper: ``python -m benchmarks.paper_figures``.

They are drawn from the printed tables and the newest results of ``benchmarks.paper_tables`` and
``benchmarks.paper_sweep``. As in the paper, Fig. 1 shows the mean over the models with its average
deviation; the legend names our models if there are fewer than in the paper. LMF has the weights of
its printed result.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.paper import printed
from benchmarks.paper.figures import MacroF1, draw_classes, draw_losses, draw_settings
from benchmarks.record import RESULTS
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.errors import UserError, run_command
from lmf_jax.evaluation.figures import save_figure


@dataclass(frozen=True)
class Options:
    """Draw the figures of the paper."""

    results: tuple[str, ...] = dataclasses.field(default_factory=lambda: found_results(RESULTS))
    """Result files of paper_tables and paper_sweep, the newest last."""
    out_dir: str = "runs/paper/figures"
    """The folder of the figures."""


def found_results(folder: Path) -> tuple[str, ...]:
    """Return the files of paper_tables and paper_sweep, sorted by the date in their names."""
    paths = sorted(folder.glob("paper_*.json"), key=lambda path: (path.stem[-10:], path.name))
    return tuple(map(str, paths))


def main() -> None:
    """Draw the figures with results."""
    options = parse_in_one_line(lambda: tyro.cli(Options), [Options])
    results = [read_result(Path(path).expanduser()) for path in options.results]
    folder = Path(options.out_dir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"figure_1": draw_losses(series(results)), "figure_2": draw_classes(train_counts())}
    for result in results:
        if result["benchmark"] == "paper_sweep":
            figures["figure_4"] = draw_settings(result["settings"])
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png")
        print(folder / f"{name}.png")


def read_result(path: Path) -> dict[str, Any]:
    """Read the recorded results of a benchmark.

    Raises:
        UserError: If the file is missing or has no results.
    """
    try:
        result = json.loads(path.read_text())
        if "benchmark" in result:
            return dict(result)
        reason = "it names no benchmark"
    except (OSError, ValueError, TypeError) as error:
        reason = str(error)
    raise UserError(
        f"{path} is not a result ({reason}); expected a JSON file of paper_tables or paper_sweep."
    )


def series(results: Sequence[dict[str, Any]]) -> dict[str, MacroF1]:
    """Return the printed macro F1 and, if there are results, ours.

    Args:
        results: The recorded results; the last of each dataset and model counts.
    """
    known = {key: scores.macro_f1 for key, scores in printed.scores().items()}
    newest = {
        (result["dataset"], result["model"]): result["macro_f1"]
        for result in results
        if result["benchmark"] == "paper_tables"
    }
    ours = {
        (*key, loss): 100 * macro_f1
        for key, losses in newest.items()
        for loss, macro_f1 in losses.items()
    }
    models = [
        name for model, name in printed.MODELS.items() if any(key[1] == model for key in ours)
    ]
    label = "ours" if len(models) == len(printed.MODELS) else f"ours, {' and '.join(models)} alone"
    return {"printed": known} | ({label: ours} if ours else {})


def train_counts() -> dict[str, dict[str, int]]:
    """Return the training images of each class, equal in Table 5 and in our split."""
    return {
        dataset: {name: row.train for name, row in rows.items()}
        for dataset, rows in printed.class_f1().items()
    }


if __name__ == "__main__":
    run_command("benchmarks.paper_figures", main)
