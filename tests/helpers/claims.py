"""Figures of the documents, recomputed from the files under ``benchmarks/results``."""

import json
import re
import shlex
from pathlib import Path
from statistics import mean

from benchmarks.paper import printed
from benchmarks.record import table as markdown
from lmf_jax.cli.command_line import parse_config

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
PAIR = "\N{GREEK SMALL LETTER ALPHA}={:g}, β={:g}"
"""How the documents write weights of LMF."""


def result(pattern):
    """Return the newest result whose name fits."""
    return json.loads(max(RESULTS.glob(pattern), key=lambda path: path.stem[-10:]).read_text())


def paper_result(size):
    return result(f"paper_tables-ham10000-resnet50_v1-*image-size-{size}_*.json")


def config_of(row):
    """Return the settings of a recorded run."""
    return parse_config(shlex.split(row["command"])[2:]).resolve({})


def section(text, heading):
    """Return a section of a page, down to the next of the same rank."""
    [(_, found)] = re.findall(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^\1 |\Z)", text, re.M | re.S)
    return found


def tables(text):
    """Return the tables of a page, each as rows of cells, without the line of dashes."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    return [cells(block) for block in blocks]


def cells(block):
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
    return [rows[0], *rows[2:]]


def digits_table():
    """Test macro F1 of the default run, a loss a row."""
    rows = result("digits_lt-cpu-*.json")["rows"]
    names = {"lmf": f"`lmf`, {PAIR.format(1, 0.5)}", "ce": "`ce`"}
    found = [["loss", "test macro F1, seeds 0, 1, 2", "mean"]]
    for loss, name in names.items():
        scores = {row["seed"]: row["test macro F1"] for row in rows if row["loss"] == loss}
        each = ", ".join(f"{scores[seed]:.3f}" for seed in (0, 1, 2))
        found.append([name, each, f"{sum(scores.values()) / 3:.3f}"])
    return found


PAPER_ROWS = {
    "cross entropy": ("ce", "CCE", None),
    "focal": ("focal", "Focal", None),
    "LDAM": ("ldam", "LDAM", None),
    "BWCCE": ("bwcce", "BWCCE", None),
    f"LMF, {PAIR.format(1, 0.5)}": ("lmf 1,0.5", "LMF 1,0.5", (1.0, 0.5)),
    f"LMF, {PAIR.format(0.5, 1)}": ("lmf 0.5,1", "LMF 0.5,1", (0.5, 1.0)),
}
"""Row of the table, and the run, row and weights of the same result in the files."""


def points(result, name, of="ce"):
    """Return by how much the macro F1 of a run is larger than that of another, in points."""
    scores = {row["run"].removesuffix(", seed 0"): row["macro_f1"] for row in result["rows"]}
    return 100 * (scores[name] - scores[of])


def difference(result, losses):
    """Return a row of the table of differences, None if it was not computed."""
    rows = result["tables"]["Macro F1 of LMF less that of another loss"]
    return {row["losses"]: row for row in rows}.get(losses)


def printed_macro_f1(name, weights):
    """Return a printed figure, and of LMF only that of its own weights."""
    if weights not in (None, printed.best_weights()["ham10000", "resnet50"]):
        return None
    return printed.scores()["ham10000", "resnet50", name.split()[0]].macro_f1


def paper_table():
    """Return the two reproductions on HAM10000 and the printed figures."""
    found = [["loss", "64 pixels", "less CE", "224 pixels", "less CE", "in the paper", "less CE"]]
    for title, (name, row_name, weights) in PAPER_ROWS.items():
        row = [title]
        for size in (64, 224):
            of_size = paper_result(size)
            scores = of_size["tables"]["Results on the test images"]
            row += [next(r["macro F1"] for r in scores if r["loss"] == row_name)]
            less = "" if name == "ce" else f"{points(of_size, name):+.1f}"
            with_interval = difference(of_size, f"{row_name} - CCE")
            if with_interval is not None:
                less += " " + interval(with_interval["over images"])
            row.append(less)
        theirs, of_ce = printed_macro_f1(name, weights), printed_macro_f1("ce", None)
        row.append("" if theirs is None else f"{theirs:.2f}")
        row.append("" if theirs is None or name == "ce" else f"{theirs - of_ce:+.1f}")
        found.append(row)
    return found


def interval(text):
    """Return the interval of a cell, without plus signs."""
    return text[text.index("[") : text.index("]") + 1].replace("+", "")


def gradcam_table():
    """Grad-CAM inside the masks of the lesions, in percent."""
    rows = {r["run"]: r for r in result("gradcam_masks-*.json")["rows"] if r["class"] == "all"}
    found = [["", "heat inside the lesion, %", "maximum inside the lesion, %"]]
    for name, run in (("cross entropy", "ce"), (f"LMF, {PAIR.format(1, 0.5)}", "lmf")):
        row = rows[run]
        shares = [[100 * row[key + end] for end in ("", " low", " high")] for key in SHARES]
        found.append([name, *("{:.1f} [{:.1f}, {:.1f}]".format(*share) for share in shares)])
    chance = [f"{100 * rows['ce'][key]:.1f}" for key in ("chance", "cell chance")]
    return [*found, ["by chance", *chance]]


SHARES = ("energy", "hit")
SEGMENTATION_ROWS = {
    "cross entropy": "ce",
    "Dice": "dice",
    "Tversky": "tversky",
    "focal Tversky": "focal-tversky",
    "focal": "segmentation-focal",
    "combo": "combo",
    "Mixed Focal": "mixed-focal",
    "asymmetric Unified Focal": "asymmetric-unified-focal",
    "LMF": "lmf",
}


def segmentation_rows(epochs):
    rows = result(f"segmentation_tables-isic2018_task1-128px-{epochs}-epochs-*.json")["rows"]
    return {row["loss"]: row for row in rows}


def segmentation_table():
    """Segmentation losses after eight epochs, and their DSC after one."""
    heading = ["loss", "DSC", "IoU", "hd95, pixels", "DSC less CE", "p", "DSC after one epoch"]
    after_8, after_1, found = segmentation_rows(8), segmentation_rows(1), [heading]
    for title, loss in SEGMENTATION_ROWS.items():
        row = after_8[loss]
        less, _, p = row["dsc less the first's"].partition(", p ")
        less = less and f"{less.split()[0]} {interval(less)}"
        p = "1" if p == "1.0000" else p
        last = f"{after_1[loss]['dsc']} {after_1[loss]['interval of dsc']}"
        dsc = f"{row['dsc']} {row['interval of dsc']}"
        found.append([title, dsc, row["iou"], row["hd95, pixels"], less, p, last])
    return found


def multilabel_table():
    """Return the multi-label losses side by side: means over seeds, and differences to BCE."""
    recorded = result("multilabel_losses-digits_multilabel-*.json")
    differences = {row["loss"]: list(row.values())[1:] for row in recorded["differences"]}
    metrics = ("mAP", "macro AUROC", "macro F1")
    found = [["loss", *metrics, "less BCE", "over images", "over seeds", "p"]]
    for loss in dict.fromkeys(row["run"].split(",")[0] for row in recorded["rows"]):
        runs = [row for row in recorded["rows"] if row["run"].startswith(f"{loss}, ")]
        means = [f"{mean(run[name] for run in runs):.3f}" for name in metrics]
        found.append([f"`{loss}`", *means, *differences.get(loss, [""] * 4)])
    return found


RESULT_TABLES = {
    "Results on the default data": [digits_table],
    "The paper's tables": [paper_table, gradcam_table],
    "Segmentation losses side by side": [segmentation_table],
}
"""The functions that compute the tables of each section of ``docs/results.md``."""


def train_step_table():
    keys = ["images/s", "step MB", "torch images/s", "torch MB"]
    found = [["model", "size", "batch", "images/s", "MB", "PyTorch images/s", "MB"]]
    found[0].append("ours over PyTorch")
    for row in result("train_step-cpu-*.json")["rows"]:
        shown = [str(row[key]) for key in ("model", "size", "batch", *keys)]
        found.append([*shown, f"{row['over torch']:.2f}"])
    return found


def losses_table():
    names = ("ce", "focal", "ldam", "lmf", "lmf released")
    rows = result("losses-cpu-*.json")["rows"]
    found = [["examples, classes", *names, "PyTorch over ours"]]
    for size in dict.fromkeys((row["examples"], row["classes"]) for row in rows):
        of_size = {r["loss"]: r for r in rows if (r["examples"], r["classes"]) == size}
        ratios = ["{:.2f}".format(of_size[name]["of optax's ce"]) for name in names]
        torch = "{:.1f}".format(of_size["lmf released"]["torch's time over ours"])
        found.append([", ".join(map(str, size)), *ratios, torch])
    return found


def start_up_table():
    found = [["model", "empty cache", "second start", "times faster"]]
    for row in result("start_up-cpu-*.json")["rows"]:
        times = [row[key] for key in ("first start, s", "second start, s", "times faster")]
        found.append([row["model"], *(f"{time:.1f}" for time in times)])
    return found


def compiled_table():
    return cells(markdown(result("tpu_compile-*.json")["rows"]))


def modelled_table():
    return cells(markdown(result("tpu_compile-*.json")["modelled"]))


def rounding_table():
    """Return the span of macro F1 over perturbed copies of a run and over seeds."""
    parts = [f"{part} macro F1" for part in ("validation", "test")]
    rows = result("rounding-cpu-*.json")["rows"]
    copies = [row for row in rows if row["copy"]]
    seeds = [row for row in rows if not row["copy"]]
    found = [["two epochs of the default classifier", *parts]]
    found.append(["seed 0", *(seeds[0][part] for part in parts)])
    for title, group in (("seed 0, four perturbed copies", copies), ("seeds 0 to 4", seeds)):
        spans = [sorted(row[part] for row in group) for part in parts]
        found.append([title, *(f"{span[0]} to {span[-1]}" for span in spans)])
    return found


def faults_table():
    return cells(markdown(result("faults-cpu-*.json")["rows"]))
