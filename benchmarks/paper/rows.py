"""The rows of the reproduced tables, ours and printed, in percent."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.paper import printed
from benchmarks.paper.reproduced import Group, Interval, macro_f1_differences
from data.prepared.prepare import is_prepared
from data.splits.dataset import load_dataset

Row = dict[str, str]

COLUMNS = {
    "accuracy": "accuracy",
    "macro_precision": "precision",
    "macro_recall": "recall",
    "macro_f1": "macro_f1",
}
"""The columns of Tables 2 to 4: our keys, and those of :class:`printed.Scores`."""

PARTS = ("train", "validation", "test")


def split_rows(data_dir: str) -> list[Row]:
    """Return the rows of Table 1: the images of each part in our split and in the paper.

    Args:
        data_dir: The folder of prepared datasets; others get no numbers of ours.

    Raises:
        UserError: If a prepared dataset is broken.
    """
    rows = []
    for dataset, sizes in printed.split_sizes().items():
        row = {"dataset": printed.DATASETS[dataset]}
        ours = {}
        if is_prepared(dataset, Path(data_dir).expanduser()):
            ours = load_dataset(dataset, data_dir=data_dir, split="paper").rows
        for part in PARTS:
            row[part] = f"{len(ours[part]):,}" if ours else "not prepared"
            row[f"{part}, printed"] = f"{sizes[part]:,}"
        rows.append(row)
    return rows


def result_rows(dataset: str, model: str, groups: Sequence[Group]) -> list[Row]:
    """Return the rows of Table 2, 3 or 4: the metrics of each loss with their intervals.

    Args:
        dataset: Name of the dataset.
        model: The model of the printed figures.
        groups: The finished runs of each loss.
    """
    rows = []
    for group in groups:
        row = {"loss": title(group), "seeds": " ".join(map(str, sorted(group.runs)))}
        row["validation macro F1"] = f"{100 * group.validation_macro_f1:.2f}"
        known = printed_scores(dataset, model, group)
        for ours, theirs in COLUMNS.items():
            column = "macro F1" if theirs == "macro_f1" else theirs
            row[column] = percent(group.score(ours))
            row[f"{column}, printed"] = "" if known is None else f"{getattr(known, theirs):.2f}"
        rows.append(row)
    return rows


def printed_scores(dataset: str, model: str, group: Group) -> printed.Scores | None:
    """Return the printed figures of a loss; for lmf only with the weights of the printed result.

    Args:
        dataset: Name of the dataset.
        model: Name of the model.
        group: The runs that are compared with them.
    """
    if group.weights not in (None, printed.best_weights()[dataset, model]):
        return None
    return printed.scores().get((dataset, model, group.loss))


def difference_rows(
    dataset: str, model: str, lmf: Sequence[Group], others: Sequence[Group]
) -> list[Row]:
    """Return the differences of LMF to each loss, ours and printed, with intervals and p-values.

    Args:
        dataset: Name of the dataset.
        model: The model of the printed figures.
        lmf: The runs of LMF, a group for each pair of weights, at least one.
        others: The runs of the other losses, at least one.
    """
    rows = []
    for group, other, ours in macro_f1_differences(lmf, others):
        row = {"losses": f"{title(group)} - {title(other)}"}
        row["over images"] = percent(ours.images, sign="+")
        row["p, Holm"] = f"{ours.p:.4f}"
        row["over seeds"] = "" if ours.seeds is None else percent(ours.seeds, sign="+")
        row["0 is possible"] = _yes(ours.contains(0))
        theirs = _printed_difference(dataset, model, group, other)
        row["printed"] = "" if theirs is None else f"{theirs:+.2f}"
        row["printed is possible"] = "" if theirs is None else _yes(ours.contains(theirs / 100))
        rows.append(row)
    return rows


def _printed_difference(dataset: str, model: str, group: Group, other: Group) -> float | None:
    first, second = (printed_scores(dataset, model, g) for g in (group, other))
    return None if first is None or second is None else first.macro_f1 - second.macro_f1


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"


def class_rows(dataset: str, model: str, groups: Sequence[Group]) -> list[Row]:
    """Return the rows of Table 5: the F1 of each class for every loss.

    Args:
        dataset: Name of the dataset.
        model: Name of the model; only figures of EfficientNetV2 are printed.
        groups: The finished runs of each loss, at least one.
    """
    recorded = next(iter(groups[0].runs.values())).dataset
    train = dict(zip(recorded["class_names"], recorded["class_counts"]["train"], strict=True))
    known = printed.class_f1()[dataset] if model == printed.CLASS_F1_MODEL else {}
    rows = []
    for name in printed.class_f1()[dataset]:
        row = {"class": name, "train": f"{train[name]:,}"}
        for group in groups:
            row[title(group)] = percent(group.class_f1(name))
            if known:
                of_weights = printed_scores(dataset, model, group) is not None
                f1 = known[name].f1.get(group.loss) if of_weights else None
                row[f"{title(group)}, printed"] = "" if f1 is None else f"{f1:.2f}"
        rows.append(row)
    return rows


def title(group: Group) -> str:
    """Return the name of the loss in the paper, with the weights of LMF."""
    name = printed.LOSSES.get(group.loss, group.loss)
    return name if group.weights is None else "{} {:g},{:g}".format(name, *group.weights)


def percent(interval: Interval, *, sign: str = "") -> str:
    """Return a fraction in percent with two digits, and its interval with one."""
    value = f"{100 * interval.value:{sign}.2f}"
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"
