"""One table of several records of ``benchmarks.paper_tables`` with different seeds.

``python -m benchmarks.paper_seeds benchmarks/results/paper_tables-odir5k-*.json`` joins tables
whose seeds were trained on different days or machines. The predictions need not be at hand: the
intervals are those over seeds.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks.paper import printed
from benchmarks.paper.reproduced import Interval
from benchmarks.paper.rows import COLUMNS, Row, percent
from benchmarks.record import record, table
from lmf_jax.errors import UserError, run_command
from lmf_jax.evaluation.statistics import mean_over_seeds

VARIED = re.compile(r" --(loss|alpha|beta|seed) \S+")
"""The flags in which runs of one table differ."""

Metrics = Mapping[str, Any]
"""A row of a record: metrics as fractions, by their keys in ``test.json``."""


@dataclass(frozen=True)
class Options:
    """Join records of benchmarks.paper_tables."""

    records: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files of one dataset, one model and one recipe, with different seeds."""


def main() -> None:
    """Print and record the joint tables."""
    options = tyro.cli(Options)
    records = [json.loads(path.read_text()) for path in options.records]
    check_fit(options.records, records)
    scores = scores_by_loss(row for each in records for row in each["rows"])
    dataset, model = records[0]["dataset"], records[0]["model"]
    results = result_rows(dataset, model, scores)
    differences = difference_rows(dataset, model, scores)
    record("paper_seeds", results, place=f"{dataset}-{model}", differences=differences)
    print(table(differences))


def check_fit(paths: Sequence[Path], records: Sequence[Mapping[str, Any]]) -> None:
    """Raise UserError unless the records differ only in losses and seeds.

    Args:
        paths: The files, for the error.
        records: Their contents.
    """
    recipes = [_recipe(each) for each in records]
    for path, recipe in zip(paths, recipes, strict=True):
        if recipe != recipes[0]:
            raise UserError(
                f"{paths[0]} and {path} have runs with other settings than loss and seed; "
                "give records of one dataset, one model and one recipe."
            )


def _recipe(content: Mapping[str, Any]) -> set[str]:
    """Return the settings of all runs of a record but loss, weights and seed."""
    return {VARIED.sub("", row["command"]) for row in content["rows"]}


def scores_by_loss(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, Metrics]]:
    """Return the metrics of the runs by loss and seed.

    Args:
        rows: The rows of one or more records.

    Raises:
        UserError: If a run stands in two records.
    """
    scores: dict[str, dict[int, Metrics]] = {}
    for row in rows:
        loss, seed = row["run"].rsplit(", seed ", 1)
        of_loss = scores.setdefault(loss, {})
        if int(seed) in of_loss:
            raise UserError(f"The run {row['run']} stands in two records; give each seed once.")
        of_loss[int(seed)] = row
    return scores


def result_rows(dataset: str, model: str, scores: Mapping[str, Mapping[int, Metrics]]) -> list[Row]:
    """Return a row per loss: means over the seeds in percent, intervals and printed figures.

    Args:
        dataset: Name of the dataset.
        model: The model of the printed figures.
        scores: Output of :func:`scores_by_loss`.
    """
    rows = []
    for loss, by_seed in scores.items():
        row = {"loss": loss, "seeds": " ".join(map(str, sorted(by_seed)))}
        known = printed_scores(dataset, model, loss)
        for ours, theirs in COLUMNS.items():
            row[ours] = over_seeds([run[ours] for run in by_seed.values()])
            row[f"{ours}, printed"] = "" if known is None else f"{getattr(known, theirs):.2f}"
        rows.append(row)
    return rows


def difference_rows(
    dataset: str, model: str, scores: Mapping[str, Mapping[int, Metrics]]
) -> list[Row]:
    """Return the differences of macro F1 of LMF to the other losses, in points.

    Args:
        dataset: Name of the dataset.
        model: The model of the printed figures.
        scores: Output of :func:`scores_by_loss`; the seeds that both losses have are compared.
    """
    rows = []
    for lmf in (loss for loss in scores if loss.startswith("lmf")):
        for other in (loss for loss in scores if not loss.startswith("lmf")):
            shared = sorted(scores[lmf].keys() & scores[other].keys())
            values = [scores[lmf][s]["macro_f1"] - scores[other][s]["macro_f1"] for s in shared]
            rows.append(
                {
                    "losses": f"{lmf} - {other}",
                    "seeds": " ".join(map(str, shared)),
                    "macro F1": over_seeds(values, sign="+") if values else "",
                    "printed": _printed_difference(dataset, model, lmf, other),
                }
            )
    return rows


def _printed_difference(dataset: str, model: str, first: str, second: str) -> str:
    ours, theirs = (printed_scores(dataset, model, loss) for loss in (first, second))
    return "" if ours is None or theirs is None else f"{ours.macro_f1 - theirs.macro_f1:+.2f}"


def printed_scores(dataset: str, model: str, loss: str) -> printed.Scores | None:
    """Return the printed figures of a loss; of lmf only with the weights of the printed result."""
    name, *weights = loss.split(" ")
    alpha_beta = "{:g},{:g}".format(*printed.best_weights()[dataset, model])
    return printed.scores().get((dataset, model, name)) if weights in ([], [alpha_beta]) else None


def over_seeds(values: Sequence[float], *, sign: str = "") -> str:
    """Return the mean of fractions in percent, with Student's t interval if there are several."""
    if len(values) == 1:
        return percent(Interval(values[0], None, None), sign=sign)
    found = mean_over_seeds(values)
    return percent(Interval(found.mean, found.low, found.high), sign=sign)


if __name__ == "__main__":
    run_command("benchmarks.paper_seeds", main)
