"""The segmentation report is complete, self-contained and safe; its table is aligned."""

import base64
import json
import re
import subprocess

import numpy as np
import pytest
from PIL import Image

from lmf_jax.evaluation import write_report
from lmf_jax.evaluation.formatting import format_distance
from lmf_jax.evaluation.segmentation import read_run
from lmf_jax.evaluation.segmentation.report import format_test_table
from tests.helpers.browser import CHROMIUM, WITHOUT_CHROMIUM
from tests.helpers.page import Page
from tests.helpers.segmentation_run import write_run

FIGURES = ["dsc_by_size", "dsc_distribution", "overlays", "training_curves"]
TILES = {"Mean DSC": "dsc", "IoU": "iou", "Precision": "precision", "Recall": "recall"}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run"), classes=3)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def html(run_dir):
    return (run_dir / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def test(run_dir):
    return read_run(run_dir).test


def ends(interval, write="{:.3f}".format):
    return " to ".join(map(write, interval))


def test_figures_are_written_and_embedded(run_dir, page):
    assert sorted(path.stem for path in (run_dir / "figures").iterdir()) == FIGURES
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    prefix = "data:image/png;base64,"
    embedded = {base64.b64decode(image["src"].removeprefix(prefix)) for image in images}
    assert embedded == {path.read_bytes() for path in (run_dir / "figures").iterdir()}
    assert all(png.startswith(b"\x89PNG") and len(png) > 10_000 for png in embedded)
    assert all(image["alt"] for image in images)


def test_report_loads_nothing_from_elsewhere(html, page):
    assert "http://" not in html and "https://" not in html
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "a"}
    assert not re.search(r"url\(|@import", html)


def test_result_comes_first(test, page):
    first_screen = page.text.split("Classes", 1)[0]
    worst = min(test["per_case"], key=lambda name: test["per_case"][name]["dsc"])
    for expected in (
        f"DSC {test['dsc']:.3f}",
        "Test of unet trained with the mixed-focal loss, seed 3",
        *(
            f"{title} {test[name]:.3f} {ends(test['intervals'][name])}"
            for title, name in TILES.items()
        ),
        f"HD95 in pixels {test['hd95']:.1f} {ends(test['intervals']['hd95'], format_distance)}",
        "36 test cases of 2 foreground classes, after training on 120 cases",
        "of whose pixels 92 % are background",
        "The weakest class is tumour",
        f"The worst case is {worst} , with a DSC of {test['per_case'][worst]['dsc']:.3f}",
    ):
        assert expected in first_screen


def test_every_class_has_its_metrics(test, page):
    for name, share in (("<b>lesion & skin</b>", "8.2 %"), ("background", "92 %")):
        metrics, intervals = test["per_class"][name], test["intervals"]["per_class"][name]
        figures = [
            f"{metrics[metric]:.3f} {ends(intervals[metric])}"
            for metric in ("dsc", "iou", "precision", "recall")
        ]
        distance = f"{metrics['hd95']:.1f} {ends(intervals['hd95'], format_distance)}"
        assert " ".join([name, *figures, distance, "36", share]) in page.text


def test_the_worst_cases_are_listed_with_their_sizes(run_dir, test, page):
    run = read_run(run_dir)
    order = sorted(test["per_case"], key=lambda name: test["per_case"][name]["dsc"])
    table = page.text.split("Worst cases", 1)[1].split("Data", 1)[0]
    found = re.findall(r"case_\d+", table)
    assert found == order[:10]
    metrics, counts = test["per_case"][order[0]], run.counts[run.ids == order[0]][0, 1:].sum(axis=0)
    cells = [f"{metrics[name]:.3f}" for name in ("dsc", "iou", "precision", "recall")]
    sizes = [f"{counts[0] + counts[2]:,}", f"{counts[0] + counts[1]:,}"]
    assert " ".join([order[0], *cells, f"{metrics['hd95']:.1f}", *sizes]) in table


def test_data_settings_and_provenance_are_all_there(page):
    for expected in (
        "Training cases 120 Validation cases 20 Test cases 36 split paper split_seed 0",
        "learning_rate 0.01",
        "task segmentation",
        "Dataset fingerprint sha256:0123abcd",
        "Device 8 \N{MULTIPLICATION SIGN} TPU v5e (tpu)",
        "jax 0.10.2",
        "Best validation DSC 0.840 in epoch 4 of 6",
    ):
        assert expected in page.text


def test_a_report_can_do_without_overlays_and_knows_volumes_and_patients(tmp_path):
    patients = np.array(["a", "a", "b", "", ""])
    run_dir = write_run(tmp_path, number=5, unit="mm", groups=patients, overlays=False)
    page = Page(write_report(run_dir).read_text())
    assert "HD95 in mm" in page.text and "of whose voxels 92 %" in page.text
    assert "Lesions or patients in the test 4" in page.text
    assert "which draw lesions or patients with all their cases" in page.text
    assert "5 test cases of 1 foreground class, after" in page.text
    assert "From the worst to the best" not in page.text and "weakest class" not in page.text
    assert not (run_dir / "figures" / "overlays.png").exists()


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_no_text_of_a_run_becomes_a_part_of_the_page(tmp_path):
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    run_dir = write_run(tmp_path / "run", {"loss": evil, evil: 1}, number=3)
    case = f"case {evil}"
    for path in (run_dir / "config.json", run_dir / "test.json"):
        text = path.read_text().replace("case_00001", case.replace('"', '\\"'))
        path.write_text(text.replace("<b>lesion & skin</b>", evil.replace('"', '\\"')))
    record = json.loads((run_dir / "config.json").read_text())
    record["dataset"] |= {"name": evil, "fingerprint": evil}
    (run_dir / "config.json").write_text(json.dumps(record))
    with np.load(run_dir / "cases.npz") as file:
        arrays = dict(file)
    arrays["ids"] = np.array(["case_00000", case, "case_00002"])
    np.savez(run_dir / "cases.npz", **arrays)
    page = Page(write_report(run_dir).read_text())
    assert page.text.count(evil) >= 7
    assert not {tag for tag, _ in page.elements} & {"script", "b"}
    assert not any("onerror" in attributes for _, attributes in page.elements)


@pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT_CHROMIUM)
def test_a_browser_shows_all_parts(run_dir, tmp_path):
    picture = tmp_path / "report.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", "--window-size=390,2000"]
    command += [f"--screenshot={picture}", f"file://{run_dir / 'report.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    shown = Page(re.sub("^<!doctype.*?>", "", done.stdout, flags=re.IGNORECASE))
    headings = ("Classes", "Figures", "Cases", "Data", "Configuration", "Provenance")
    assert all(heading in shown.text for heading in headings)
    with Image.open(picture) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 100, "text, bars and figures"


def test_table_is_aligned_and_fits_80_columns(test):
    name = "Kidney tumour, cysts and everything else that is no healthy tissue"
    per_class = {"background": test["per_class"]["background"], name: test["per_class"]["tumour"]}
    table = format_test_table(test | {"per_class": per_class})
    lines = table.split("\n")
    head = ["class", "DSC", "IoU", "precision", "recall", "hd95", "pixels", "test"]
    assert lines[0].split() == head
    assert lines[3].startswith("Kidney tumour") and "…  " in lines[3]
    mean = [f"{test[key]:.3f}" for key in ("dsc", "iou", "precision", "recall")]
    assert lines[5].split() == ["foreground", "mean", *mean, f"{test['hd95']:.1f}", "36"]
    assert {len(line) for line in lines[:6]} == {80}
    assert max(map(len, lines)) == 80
    low, high = test["intervals"]["dsc"]
    assert lines[7] == f"DSC            {test['dsc']:.3f}  [{low:.3f}, {high:.3f}]"
    assert lines[11].startswith("hd95 pixels") and f"{test['hd95']:.1f}" in lines[11]
    assert lines[-1] == "[ ]: 95 % interval for the choice of test cases"
