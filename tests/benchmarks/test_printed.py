"""The printed tables: complete, and consistent up to the known contradictions."""

from dataclasses import asdict
from importlib import import_module
from itertools import product

import pytest

from benchmarks.paper import printed
from data.registry import registered_datasets

LISTED = {
    (d.version, d.table, d.dataset, d.model, d.loss, d.figure) for d in printed.discrepancies()
}


def test_every_cell_of_every_table_is_there():
    final, first = printed.scores(), printed.scores("first")
    assert set(final) == set(product(printed.DATASETS, printed.MODELS, printed.LOSSES))
    known = ("odir5k", "ham10000", "isic2019"), ("efficientnet_v2_s", "resnet50")
    assert set(first) == set(product(*known, ("ce", "focal", "ldam", "lmf")))
    assert set(printed.best_weights()) == set(product(printed.DATASETS, printed.MODELS))
    assert set(printed.split_sizes()) == set(printed.class_f1()) == set(printed.DATASETS)
    for rows in printed.class_f1().values():
        assert all(list(row.f1) == list(printed.LOSSES) for row in rows.values())


def test_figures_stand_where_the_paper_has_them():
    """The first cell and the last of the tables that are read by position."""
    assert asdict(printed.scores()["odir5k", "efficientnet_v2_s", "ce"]) == {
        "accuracy": 67.64, "precision": 65.55, "recall": 58.21, "macro_f1": 60.34
    }  # fmt: skip
    assert printed.scores()["covid19_radiography", "densenet121", "lmf"].macro_f1 == 97.06
    assert printed.class_f1()["covid19_radiography"]["Viral Pneumonia"].f1["ldam"] == 98.77
    assert printed.class_f1("first")["odir5k"]["H"].f1["ce"] == 8.33
    assert printed.best_weights()["ham10000", "resnet50"] == (0.5, 1.0)


@pytest.mark.parametrize("dataset", printed.DATASETS)
def test_the_sizes_and_classes_are_those_of_the_data(dataset):
    counts = registered_datasets()[dataset].published.by_part
    labels = import_module(f"data.datasets.{dataset}.labels")
    classes = printed.class_f1()[dataset]
    assert printed.split_sizes()[dataset] == counts
    assert set(classes) == set(labels.CLASSES)
    assert sum(row.train for row in classes.values()) == counts["train"]


def test_class_means_are_the_macro_f1_of_table_2_but_where_it_is_listed():
    found = set()
    for dataset, loss in product(printed.DATASETS, printed.LOSSES):
        f1 = [row.f1[loss] for row in printed.class_f1()[dataset].values()]
        macro_f1 = printed.scores()[dataset, printed.CLASS_F1_MODEL, loss].macro_f1
        # Both may be off by half a unit of the last digit.
        if abs(sum(f1) / len(f1) - macro_f1) > 0.01 + 1e-9:
            found.add(("final", "2", dataset, printed.CLASS_F1_MODEL, loss, "macro_f1"))
    assert found == {key for key in LISTED if key[1] == "2" and key[-1] == "macro_f1"}


def test_every_accuracy_is_a_count_of_test_images_but_where_it_is_listed():
    tables = {"efficientnet_v2_s": "2", "resnet50": "3", "densenet121": "4"}
    found = set()
    for (dataset, model, loss), scores in printed.scores().items():
        images = printed.split_sizes()[dataset]["test"]
        right = round(scores.accuracy / 100 * images)
        if round(100 * right / images, 2) != scores.accuracy:
            found.add(("final", tables[model], dataset, model, loss, "accuracy"))
    assert found == {key for key in LISTED if key[0] == "final" and key[-1] == "accuracy"}


def test_every_class_f1_is_a_ratio_of_counts_but_where_it_is_listed():
    short = {"COVID": "Covid"}
    found = {
        ("final", "5", dataset, printed.CLASS_F1_MODEL, loss, f"f1 of {short.get(name, name)}")
        for dataset, rows in printed.class_f1().items()
        for name, row in rows.items()
        for loss, f1 in row.f1.items()
        if not any(is_f1_of(f1, support) for support in supports(row.train))
    }
    assert found == {key for key in LISTED if key[1] == "5"}


def supports(train):
    """Return the possible numbers of test images of a class, given its training images."""
    totals = range(train, 2 * train)
    held_out = {total: (15 * total + 50) // 100 for total in totals}
    return {held_out[total] for total in totals if total - 2 * held_out[total] == train}


def is_f1_of(percent, support):
    """Whether 2 TP / (support + predicted) can be this F1, to two digits."""
    share = percent / 200
    predictions = range(10 * support)
    return any(
        round(100 * 2 * right / (support + predicted), 2) == percent
        for predicted in predictions
        for right in {int(share * (support + predicted)), int(share * (support + predicted)) + 1}
        if right <= min(support, predicted)
    )


def test_macro_f1_is_at_most_the_mean_of_precision_and_recall():
    """So it is for each class, and so for their means."""
    for scores in [*printed.scores().values(), *printed.scores("first").values()]:
        assert scores.macro_f1 <= (scores.precision + scores.recall) / 2 + 0.01


def test_the_versions_of_the_paper_differ_only_where_it_is_listed():
    found = {
        ("first", "1", *key, figure)
        for key, scores in printed.scores("first").items()
        for figure, value in asdict(scores).items()
        if value != asdict(printed.scores()[key])[figure]
    }
    assert found == {key for key in LISTED if key[0] == "first"}
    for dataset, rows in printed.class_f1("first").items():
        for name, row in rows.items():
            final = printed.class_f1()[dataset][name]
            assert final.train == row.train
            assert row.f1.items() <= final.f1.items()
