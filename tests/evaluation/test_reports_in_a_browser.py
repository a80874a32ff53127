"""Reports of degenerate tests, laid out by Chromium at desktop and phone widths."""

import pytest

from lmf_jax.cli.operate import Operate, run_operate
from lmf_jax.cli.sets import Sets, run_sets
from lmf_jax.evaluation import read_run, write_report
from lmf_jax.evaluation.classification.external import write_external
from lmf_jax.evaluation.predictions import Predictions
from tests.helpers.browser import CHROMIUM, WITHOUT_CHROMIUM, open_browser
from tests.helpers.degenerate import classifier_tests, nonsense_in, write_classifier_run
from tests.helpers.degenerate_segmentation import segmenter_tests, write_segmenter_run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT_CHROMIUM)

CLASSIFIERS = ("constant", "absent_class", "one_image_right", "thirty_classes", "long_names")
SEGMENTERS = ("all_empty", "one_case", "thirty_classes", "long_names")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def small_pictures():
    """Lower the resolution: the width of a picture on the page does not depend on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lmf_jax.evaluation.figures.save_figure",
            lambda figure, path: figure.savefig(path, format="png", dpi=40),
        )
        yield


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize(
    ("tests", "write", "name"),
    [
        *((classifier_tests, write_classifier_run, name) for name in CLASSIFIERS),
        *((segmenter_tests, write_segmenter_run, name) for name in SEGMENTERS),
    ],
)
def test_a_degenerate_report_is_laid_out(tests, write, name, browser, tmp_path):
    write(tmp_path / "run", tests()[name])
    report = write_report(tmp_path / "run")
    for width in (1280, 400):
        shown = browser.show(report, width)
        assert shown["errors"] == []
        assert len(shown["images"]) >= 4 and all(shown["images"])
        assert nonsense_in(shown["text"]) == []
        assert (shown["width"], shown["scrollWidth"]) == (width, width)


@pytest.mark.usefixtures("small_pictures")
@pytest.mark.parametrize("name", ["long_names", "absent_class"])
def test_a_report_with_every_section_is_laid_out(name, browser, tmp_path):
    """Operating points, prediction sets and a test on a dataset with a long path."""
    run_dir = tmp_path / "run"
    write_classifier_run(run_dir, classifier_tests()[name])
    run = read_run(run_dir)
    names = run.dataset["class_names"]
    run_operate(Operate(run=str(run_dir), class_name=names[0], sensitivity=0.9))
    run_sets(Sets(run=str(run_dir)))
    other = Predictions(ids=run.ids, labels=run.labels, logits=run.logits, groups=run.groups)
    facts = {"dataset": f"manifest:/{'folder' * 20}", "where": None, "leakage": {"checked": False}}
    write_external(run_dir / "external" / "other", run, other, facts)
    report = write_report(run_dir)
    for width in (1280, 390):
        shown = browser.show(report, width)
        assert shown["errors"] == []
        assert nonsense_in(shown["text"]) == []
        assert (shown["width"], shown["scrollWidth"]) == (width, width)
        for title in ("Operating points", "Prediction sets at 90 %", "Curves", "Test on manifest"):
            assert title in shown["text"]
