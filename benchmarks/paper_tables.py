"""The tables of the paper, reproduced and printed: ``python -m benchmarks.paper_tables``.

It trains the missing runs, one for each loss, pair of LMF weights and seed, then prints Table 2, 3
or 4 of the paper (by model) for one dataset, the differences between the losses with intervals and
p-values, and the class-wise F1 of Table 5. Several workers may run the same command at once; on one
GPU, set ``XLA_PYTHON_CLIENT_PREALLOCATE=false``.

The runs follow the recipe of the paper and its released code unless a flag changes it
(:mod:`benchmarks.paper.recipe` cites the source of each setting): torchvision's ImageNet weights,
224 pixels in [0, 1], Adam with a learning rate of 1e-4 and coupled L2 of 5e-4, decay by 0.1 every
30 epochs, 100 epochs in batches of 32. Four things cannot be reproduced: the images in each part,
the smaller last batch of an epoch, the order of the margins, which depends on the file system
there, and PyTorch's random numbers. The tables begin with a list of all differences from the paper.
Printed figures of LMF are shown only for runs with their alpha and beta (Table 6).
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import tyro

from benchmarks.paper import printed
from benchmarks.paper.options import RecipeOptions
from benchmarks.paper.recipe import DIFFERS, bullets, differences_from_paper
from benchmarks.paper.reproduced import Group, read_group
from benchmarks.paper.rows import COLUMNS, class_rows, difference_rows, result_rows, split_rows
from benchmarks.paper.runs import Run, train_missing
from benchmarks.record import record, table
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.errors import TrainingStopped, UserError, run_command
from lmf_jax.evaluation.classification.run import FinishedRun
from lmf_jax.runs.files import best_epoch

RESULTS = "Results on the test images"
DIFFERENCES = "Macro F1 of LMF less that of another loss"
CLASSES = "F1 of each class"

NOTES = {
    RESULTS: "In percent. In brackets the 95 % interval: of one seed that of its test.json, were "
    "the test images others (see docs/statistics.md); of several seeds, Student's t over them, "
    "which of two or three may pass 0 and 100. The best epoch is chosen by validation macro F1. "
    "Printed: Sadi et al., arXiv 2212.12741, one run each.",
    DIFFERENCES: "In points, with 95 % intervals. LMF with the weights that validation macro F1 "
    "chose and, if they are others, with those of the printed result: a printed difference stands "
    "beside these alone. Over images: as compare has it (see docs/statistics.md), and p is that of "
    "its test, corrected for all rows. Over seeds: Student's t of the differences, seed by seed. "
    "What one of the two intervals holds is called possible.",
    CLASSES: "In percent, intervals as above. The paper prints those of EfficientNetV2.",
}


@dataclass(frozen=True)
class Options(RecipeOptions):
    """Reproduce a table of the paper; finished runs are only read."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the training."""
    losses: tuple[str, ...] = tuple(printed.LOSSES)
    """Names of --loss of train.py."""
    lmf_weights: tuple[str, ...] = ()
    """Pairs alpha,beta of lmf, one row each (default: those of Table 6)."""
    tables_only: bool = False
    """Print the finished runs without training."""
    table: Literal["results", "1"] = "results"
    """results: Tables 2 to 5; 1: the sizes of the parts of all prepared datasets."""


def main() -> None:
    """Train missing runs, then print and record the tables."""
    options = parse_in_one_line(lambda: tyro.cli(Options), [Options])
    if options.table == "1":
        print(table(split_rows(options.data_dir)))
        return
    wanted = [
        (loss, weights, {seed: options.recipe.run(loss, weights, seed) for seed in options.seeds})
        for loss, weights in losses_and_weights(options)
    ]
    # Seed by seed: a table that is stopped early has all losses.
    runs = [by_seed[seed] for seed in options.seeds for _, _, by_seed in wanted]
    failed = [] if options.tables_only else train_missing(runs)
    # The GPU belongs to the workers that still train.
    jax.config.update("jax_platforms", "cpu")
    read = (read_group(loss, weights, by_seed) for loss, weights, by_seed in wanted)
    groups = [group for group in read if group is not None]
    if not groups:
        raise UserError(f"No run is finished in {options.runs_dir}; leave --tables-only out.")
    write_tables(options, groups, runs)
    if failed:
        names = "; ".join(run.name for run in failed)
        raise TrainingStopped(f"{len(failed)} of {len(runs)} runs failed: {names}.")


def losses_and_weights(options: Options) -> list[tuple[str, tuple[float, float] | None]]:
    """Return the rows of the table: each loss, and lmf once for each pair of weights.

    Raises:
        UserError: If a pair of weights is not two numbers.
    """
    best = printed.best_weights()[options.dataset, options.printed_model]
    weights = [_parse_weights(pair) for pair in options.lmf_weights] or [best]
    rows: list[tuple[str, tuple[float, float] | None]] = []
    for loss in options.losses:
        rows += [(loss, pair) for pair in weights] if loss == "lmf" else [(loss, None)]
    return rows


def _parse_weights(pair: str) -> tuple[float, float]:
    try:
        alpha, beta = (float(number) for number in pair.split(","))
    except ValueError:
        raise UserError(
            f"--lmf-weights {pair} is not alpha,beta; give for example 1,0.5."
        ) from None
    return alpha, beta


def chosen(groups: Sequence[Group]) -> Group | None:
    """Return the lmf row with the best validation macro F1."""
    lmf = [group for group in groups if group.loss == "lmf"]
    return max(lmf, key=lambda group: group.validation_macro_f1, default=None)


def compared_lmf(groups: Sequence[Group], printed_weights: tuple[float, float]) -> list[Group]:
    """Return the lmf rows to compare: the best by validation, and that of the printed weights.

    Args:
        groups: The finished groups.
        printed_weights: Alpha and beta of the printed result.
    """
    of_printed = [group for group in groups if group.weights == printed_weights]
    best = chosen(groups)
    return of_printed if best is None or best in of_printed else [best, *of_printed]


def write_tables(options: Options, groups: Sequence[Group], runs: Sequence[Run]) -> None:
    """Print the tables, and write them as JSON and Markdown.

    Args:
        options: The options.
        groups: The finished groups.
        runs: All runs of the options.
    """
    recipe, dataset, model = options.recipe, options.dataset, options.printed_model
    printed_weights = printed.best_weights()[dataset, model]
    lmf = compared_lmf(groups, printed_weights)
    others = [group for group in groups if group.loss != "lmf"]
    tables = {RESULTS: result_rows(dataset, model, groups)}
    if lmf and others:
        tables[DIFFERENCES] = difference_rows(dataset, model, lmf, others)
    tables[CLASSES] = class_rows(dataset, model, [*others, *lmf])
    differences = differences_from_paper(
        next(iter(groups[0].runs.values())).config,
        seeds={seed for group in groups for seed in group.runs},
        weights=[group.weights for group in groups if group.weights is not None],
        printed_weights=printed_weights,
    )
    print(f"\n{DIFFERS}\n\n{bullets(differences)}\n")
    finished = {group.folders[n]: run for group in groups for n, run in group.runs.items()}
    path = record(
        "paper_tables",
        [run_row(run, finished[run.folder]) for run in runs if run.folder in finished],
        place="-".join((recipe.dataset, recipe.model, recipe.settings_name)),
        differences_from_paper=differences,
        tables=tables,
        dataset=dataset,
        model=model,
        macro_f1={
            group.loss: group.score("macro_f1").value
            for group in groups
            if group.weights in (None, printed_weights)
        },
    )
    path.with_suffix(".md").write_text(to_markdown(json.loads(path.read_text())))
    for heading, rows in tables.items():
        print(f"\n{heading}\n\n{table(rows)}\n\n{NOTES[heading]}")


def run_row(run: Run, finished: FinishedRun) -> dict[str, Any]:
    """Return the metrics of one run, as fractions, and its command."""
    test = {metric: finished.test[metric] for metric in COLUMNS}
    return {
        "run": run.name,
        "validation_macro_f1": best_epoch(finished.history)["val_macro_f1"],
        **test,
        "trained on": f"{finished.device['kind']}, jax {finished.versions['jax']}",
        "command": shlex.join(["python", "train.py", *run.flags]),
    }


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the tables as Markdown, with the commands of the runs.

    Args:
        result: The results recorded by :func:`write_tables`.
    """
    parts = [f"# Tables of the paper, reproduced\n\nPrinted by `{result['command']}`."]
    parts += [f"## {DIFFERS}", bullets(result["differences_from_paper"])]
    for heading, rows in result["tables"].items():
        parts += [f"## {heading}", table(rows), NOTES[heading]]
    parts += ["## The runs", table(result["rows"])]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    run_command("benchmarks.paper_tables", main)
