"""Every result in the documents equals that of a file in ``benchmarks/results``."""

import re
import tempfile
from statistics import mean

import pytest

from benchmarks.paper import printed
from benchmarks.paper.recipe import differences_from_paper
from benchmarks.record import table as markdown
from data.registry import default_settings
from data.splits.dataset import load_dataset
from data.splits.multilabel import load_multilabel_dataset
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config.own_data import FEW_IMAGES, FINE_TUNING, FROM_RANDOM, IMAGE_SIZE
from lmf_jax.config.recipes import PAPER_SETTINGS
from tests.helpers import claims
from tests.helpers.claims import ROOT, config_of, difference, paper_result, points, result, section

README = (ROOT / "README.md").read_text()
RESULTS_PAGE = (ROOT / "docs/results.md").read_text()
STATISTICS = (ROOT / "docs/statistics.md").read_text()
BENCHMARKS = (ROOT / "benchmarks/README.md").read_text()
WORDS_WITH_DIGITS = ("HAM10000", "H200", "ResNet-50", "ISIC-2018 (task 1", "F1", "leave 0 out")
SETTLED = ("95 %", "1,600 training images", "28 % of the training pixels")
"""Numbers that are not results: the interval level and facts about a dataset."""


def prose(text):
    """Return a section without tables and blocks of code, in one line."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^\|.*\n", "", text, flags=re.MULTILINE)
    return " ".join(text.replace("**", "").split())


def unexplained(text, figures):
    """Return the digits of a text that are in none of the figures, with what is around them."""
    for known in sorted((*figures, *SETTLED, *WORDS_WITH_DIGITS), key=len, reverse=True):
        text = text.replace(known, "…")
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    return re.findall(r".{0,30}\d.{0,30}", text)


def digits_figures():
    rows = result("digits_lt-cpu-*.json")["rows"]
    by_loss = {
        loss: [row["test macro F1"] for row in rows if row["loss"] == loss]
        for loss in ("lmf", "ce")
    }
    spread = max(max(scores) - min(scores) for scores in by_loss.values())
    seconds = [row["seconds"] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        rows_of = load_dataset("digits_lt", data_dir=folder).rows
    parts = {part: len(of_part) for part, of_part in rows_of.items()}
    return [
        f"{parts['test']} balanced test images",
        f"{parts['train']} training images",
        f"{parts['validation']} validation images",
        f"{min(seconds):.0f} to {max(seconds):.0f} seconds",
        f"differ by up to {spread:.3f}",
        f"of the two losses by {abs(mean(by_loss['ce']) - mean(by_loss['lmf'])):.3f}",
        f"`--ema-decay {default_settings('digits_lt')['ema_decay']}`",
    ]


def paper_figures():
    small, large = paper_result(64), paper_result(224)
    losses = "LMF 1,0.5 - {}".format
    p = [f"{float(difference(r, losses('CCE'))['p, Holm']):.2f}" for r in (small, large)]
    of_bwcce = difference(large, losses("BWCCE"))
    low, high = re.findall(r"-([\d.]+)", claims.interval(of_bwcce["over images"]))[::-1]
    behind = points(large, "bwcce", of="lmf 1,0.5")
    known = {loss: scores.macro_f1 for (*of, loss), scores in printed.scores().items() if of == HAM}
    counts = {r["class"]: r["images"] for r in result("gradcam_masks-*.json")["rows"]}
    other = {row["run"].split()[0].strip(","): row["macro_f1"] for row in paper_result(128)["rows"]}
    maps = paper_result(128)["rows"][0]
    pair = claims.PAIR.format(*printed.best_weights()[tuple(HAM)])
    return [
        f"{config_of(small['rows'][0]).training.epochs} epochs instead of 100",
        f"{config_of(small['rows'][0]).data.image_size} pixels",
        f"{config_of(large['rows'][0]).data.image_size} pixels",
        "bfloat16 (the paper: float32)",
        "pixels in [0, 1]",
        "coupled L2",
        f"{counts['all']:,} test images",
        claims.PAIR.format(1, 0.5),
        f"(p = {p[0]} and {p[1]} after Holm's correction)",
        f"by {behind:.1f} points [{low}, {high}], p = {float(of_bwcce['p, Holm']):.3f}",
        f"printed lead of {known['lmf'] - known['ce']:.1f} points is that of {pair}",
        f"LMF is {-points(small, 'lmf 0.5,1'):.1f} points behind cross entropy at 64 pixels",
        f"{points(large, 'lmf 0.5,1'):.1f} ahead at 224;",
        f"DF and VASC have {counts['DF']} and {counts['VASC']} test images",
        f"128 pixels, {config_of(maps).training.epochs} epochs, one seed",
        f"macro F1 of CE {100 * other['ce']:.1f}, of LMF {100 * other['lmf']:.1f}",
    ]


HAM = ["ham10000", "resnet50"]


def segmentation_figures():
    after_8, after_1 = claims.segmentation_rows(8), claims.segmentation_rows(1)
    ahead = [after_1[loss] for loss in ("segmentation-focal", "combo", "mixed-focal", "lmf")]
    assert all(row["dsc less the first's"].endswith("p <0.0001") for row in ahead)
    gains = [float(row["dsc less the first's"].split()[0]) for row in ahead]
    overlap = [after_8[loss] for loss in ("dice", "combo", "mixed-focal", OVERLAP_LAST)]
    assert all(float(row["dsc less the first's"].split(" p ")[1]) < 0.003 for row in overlap)
    minutes = [row["seconds"] / 60 for row in after_1.values()]
    assert [round(2 * time) / 2 for time in (min(minutes), max(minutes))] == [4.5, 6.5]
    number = result("segmentation_tables-isic2018_task1-128px-8-epochs-*.json")["num_cases"]
    return [
        "128 pixels, 8 epochs, one seed",
        f"{number} test images",
        "`--epochs 1`",
        "p below 0.003",
        f"{min(gains):.3f} to {max(gains):.3f} (p < 0.0001)",
    ]


OVERLAP_LAST = "asymmetric-unified-focal"
PROSE = {
    "Results on the default data": digits_figures,
    "The paper's tables": paper_figures,
    "Segmentation losses side by side": segmentation_figures,
}


@pytest.mark.parametrize("heading", claims.RESULT_TABLES)
def test_every_table_of_results_is_that_of_the_files(heading):
    expected = [compute() for compute in claims.RESULT_TABLES[heading]]
    assert claims.tables(section(RESULTS_PAGE, heading)) == expected


@pytest.mark.parametrize("heading", PROSE)
def test_every_figure_in_a_sentence_about_results_is_that_of_the_files(heading):
    text, figures = prose(section(RESULTS_PAGE, heading)), PROSE[heading]()
    assert [figure for figure in figures if figure not in text] == []
    assert unexplained(text, figures) == []


@pytest.mark.parametrize("heading", PROSE)
def test_a_changed_digit_is_noticed(heading):
    """The tests above see every digit of these sections but those of code and of names."""
    text = section(RESULTS_PAGE, heading)
    expected = [compute() for compute in claims.RESULT_TABLES[heading]]
    figures = PROSE[heading]()
    hidden = [m.span() for m in re.finditer(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", text, re.DOTALL)]
    hidden += [m.span() for word in WORDS_WITH_DIGITS for m in re.finditer(re.escape(word), text)]
    for found in re.finditer(r"\d", text):
        place = found.start()
        if any(first <= place < last for first, last in hidden):
            continue
        digit = str((int(text[place]) + 1) % 10)
        changed = text[:place] + digit + text[place + 1 :]
        sentences = prose(changed)
        same_prose = all(f in sentences for f in figures) and not unexplained(sentences, figures)
        assert not (same_prose and claims.tables(changed) == expected), text[
            place - 30 : place + 30
        ]


def test_the_results_name_every_setting_that_differs_from_the_paper():
    text = prose(section(RESULTS_PAGE, "The paper's tables"))
    said = {
        "model": "Keras' ResNet-50 and its ImageNet weights instead of torchvision's",
        "pretrained": "Keras' ResNet-50 and its ImageNet weights instead of torchvision's",
        "epochs": "8 epochs instead of 100",
        "optimizer": "AdamW instead of Adam with coupled L2",
        "normalisation": "Caffe's normalization instead of pixels in [0, 1]",
        "seeds": "one seed",
        "image_size": "at 64 pixels",
        "precision": "bfloat16 (the paper: float32)",
        "alpha, beta": f"The printed lead of 2.5 points is that of {claims.PAIR.format(0.5, 1)}",
    }
    always = {"split", "batches", "margins", "random numbers"}
    for size in (64, 224):
        names = {line.split(":")[0] for line in paper_result(size)["differences_from_paper"]}
        assert names <= set(said) | always
        assert [said[name] for name in names - always if said[name] not in text] == []


@pytest.mark.parametrize("size", [64, 128, 224])
def test_a_recorded_table_compares_lmf_with_the_figures_of_its_own_weights(size):
    recorded = paper_result(size)
    config = config_of(recorded["rows"][0]).record()
    printed_weights = printed.best_weights()[tuple(HAM)]
    rows = [config_of(row) for row in recorded["rows"] if row["run"].startswith("lmf")]
    weights = [(row.loss.alpha, row.loss.beta) for row in rows]
    assert recorded["differences_from_paper"] == differences_from_paper(
        config, seeds=[0], weights=weights, printed_weights=printed_weights
    )
    scores, differences, _ = recorded["tables"].values()
    for row in scores:
        if row["loss"] == "LMF 1,0.5":
            assert not any(value for key, value in row.items() if key.endswith(", printed"))
    for row in differences:
        if row["losses"].startswith("LMF 1,0.5"):
            assert row["printed"] == row["printed is possible"] == ""


def test_the_table_of_multilabel_losses_is_that_of_the_file(tmp_path):
    page = section((ROOT / "docs/multilabel.md").read_text(), "Losses side by side")
    assert claims.tables(page) == [claims.multilabel_table()]
    rows = load_multilabel_dataset("digits_multilabel", data_dir=tmp_path).rows
    assert f"{len(rows['test'])} test images" in prose(page)


def test_the_tables_of_intervals_and_tests_are_those_of_the_file():
    recorded = result("coverage-cpu-*.json")
    rows = [recorded[name] for name in ("rows", "power", "segmentation", "ece")]
    assert claims.tables(STATISTICS) == [claims.cells(markdown(table)) for table in rows]


@pytest.mark.parametrize("path", sorted(claims.RESULTS.glob("*.md")), ids=lambda path: path.name)
def test_a_recorded_page_has_the_tables_of_the_file_beside_it(path):
    recorded = result(path.with_suffix(".json").name)
    for rows in [*recorded.get("tables", {}).values(), recorded["rows"]]:
        assert markdown(rows) in path.read_text()


def test_the_tables_of_speed_are_those_of_the_files():
    computed = [claims.train_step_table(), claims.losses_table(), claims.start_up_table()]
    assert claims.tables(section(BENCHMARKS, "Two CPU cores, compared with PyTorch")) == computed
    compiled, _, modelled = claims.tables(
        section(BENCHMARKS, "The train step on a TPU pod, compiled")
    )
    assert compiled == claims.compiled_table()
    assert modelled == claims.modelled_table()


def test_the_sentences_about_speed_are_those_of_the_files():
    text = prose(section(BENCHMARKS, "Two CPU cores, compared with PyTorch"))
    epoch = result("epoch-cpu-*.json")
    turns = " and ".join(f"{ratio:.3f}" for ratio in epoch["loop_over_bare_step"])
    assert f"turn by turn: {turns} of its rate" in text
    assert f"steps fill {100 * epoch['rows'][-1]['all steps']:.1f} % of an epoch" in text
    [row] = result("predict-cpu-*.json")["rows"]
    files, bare, ratio = (row[k] for k in ("from files, s", "forward passes, s", "ratio"))
    expected = (
        f"{files:.2f} s, compared with {bare:.2f} s of forward passes alone: {ratio:.2f} times"
    )
    assert f"{row['images']:,} images of HAM10000" in text
    assert expected in text


def test_how_slow_small_maps_would_be_is_that_of_the_file():
    rows = result("convolution-cpu-*.json")["rows"]
    [row] = [row for row in rows if row["map"] == 2 and row["kernel"] == 3]
    comment = (ROOT / "lmf_jax/models/convolution.py").read_text()
    assert f"takes {row['XLA'] / row['chosen']:.0f} times as long at 2x2" in comment


def test_the_table_of_rounding_is_that_of_the_file():
    page = (ROOT / "docs/reliability.md").read_text()
    assert claims.tables(section(page, "Versions of JAX")) == [claims.rounding_table()]


def test_the_table_of_faults_is_that_of_the_file():
    [*_, faults] = claims.tables((ROOT / "docs/reliability.md").read_text())
    assert faults == claims.faults_table()


def test_own_images_are_trained_by_what_the_documents_say():
    text = prose(section(README, "Three ways in"))
    assert "settings chosen by the number of training images" in text
    assert "`--recipe paper` takes the paper's" in text
    page = prose(section((ROOT / "docs/training.md").read_text(), "Own images"))
    steps, random = FINE_TUNING, FROM_RANDOM
    for sentence in (
        f"{steps.min_steps}, or {steps.steps_per_class} per class if these are more, within "
        f"{steps.min_epochs} to {steps.max_epochs} epochs",
        f"{random.min_steps}, or {random.steps_per_class} per class, within {random.min_epochs} to "
        f"{random.max_epochs} epochs",
        f"A batch has 16 images, or 32 from {FEW_IMAGES:,} training images on",
        f"{IMAGE_SIZE} pixels",
    ):
        assert sentence in page
    assert (steps.learning_rate, random.learning_rate) == (1e-4, 1e-3)


def test_the_recipe_of_the_paper_differs_from_it_by_nothing():
    def differ(**settings):
        config = parse_config(["--dataset", "folder:here"]).resolve({}, settings)
        found = differences_from_paper(config.record(), seeds=[0])
        return {line.split(":")[0] for line in found} - {"seeds"}

    always = differ(**PAPER_SETTINGS)
    assert always == {"split", "batches", "margins", "random numbers"}
    assert differ() - always == {"pretrained", "optimizer", "normalisation"}
    page = prose((ROOT / "docs/training.md").read_text())
    assert "`--pretrained imagenet --optimizer adam-l2 --normalization unit`" in page
