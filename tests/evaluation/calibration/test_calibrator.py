"""Calibrated probabilities keep what they promise, and their file is checked when it is read."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import (
    Calibrator,
    calibrator_of,
    fit_calibrator,
    probability_metrics,
    read_calibration,
    read_calibrator,
    summarize_calibration,
    write_calibration,
)
from lmf_jax.evaluation.classification.metrics import predicted_classes

NAMES = ["a", "b", "c", "d"]


def sample(temperature, n, seed):
    """Return labels, logits whose temperature is given, and groups of two images each."""
    rng = np.random.default_rng(seed)
    true = 1.5 * rng.normal(size=(n, 4))
    labels = (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    return (
        labels,
        (temperature * true).astype(np.float32),
        np.array([f"{i // 2}" for i in range(n)]),
    )


@pytest.fixture
def parts():
    return {"validation": sample(4.0, 1000, seed=0), "test": sample(4.0, 1000, seed=1)}


@pytest.fixture
def calibration(parts):
    calibrator = fit_calibrator(*parts["validation"][:2])
    return summarize_calibration(calibrator, NAMES, **parts)


def test_calibration_error_falls_on_miscalibrated_logits(calibration):
    metrics = calibration["metrics"]
    assert metrics["none"]["ece_interval"][0] > 0.1
    for method in ("temperature", "vector"):
        assert metrics[method]["ece"] < 0.03
        assert metrics[method]["log_loss"] < metrics["none"]["log_loss"]
        assert metrics[method]["brier"] < metrics["none"]["brier"]
    losses = [metrics[name]["validation_log_loss"] for name in ("vector", "temperature", "none")]
    assert losses == sorted(losses)
    assert calibration["validation"] == {"images": 1000, "units": 500}


@pytest.mark.parametrize("temperature", [1e-2, 0.3, 7.0, 1e3])
def test_temperature_keeps_the_class_and_the_order_of_every_example(temperature, parts):
    _, logits, _ = parts["test"]
    logits[0] = logits[1] = logits[2].max()
    logits[1, 0] = np.nextafter(logits[1, 1], np.float32(-np.inf))
    calibrator = replace(Calibrator.identity(4), method="temperature", temperature=temperature)
    calibrated = calibrator.calibrate(logits)
    np.testing.assert_array_equal(predicted_classes(calibrated), predicted_classes(logits))
    order = np.argsort(-logits, axis=1, kind="stable")
    np.testing.assert_array_equal(np.argsort(-calibrated, axis=1, kind="stable"), order)
    assert predicted_classes(calibrated)[:2].tolist() == [0, 1]


def test_probabilities_sum_to_one_and_the_identity_is_the_softmax(parts):
    labels, logits, _ = parts["test"]
    plain = Calibrator.identity(4).probabilities(logits)
    np.testing.assert_allclose(plain, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), 1e-5)
    for method in ("none", "temperature", "vector"):
        calibrator = fit_calibrator(labels, logits, method)
        np.testing.assert_allclose(calibrator.probabilities(logits).sum(axis=1), 1)
        assert (method == "none") == np.array_equal(calibrator.probabilities(logits), plain)


def test_metrics_of_probabilities_are_those_of_their_definitions():
    labels, logits = np.array([0, 1]), np.log([[0.8, 0.2], [0.6, 0.4]])
    metrics = probability_metrics(labels, logits)
    assert metrics["log_loss"] == pytest.approx(-np.log([0.8, 0.4]).mean())
    assert metrics["brier"] == pytest.approx((2 * 0.04 + 2 * 0.36) / 2)
    low, high = metrics["ece_interval"]
    assert 0 <= low <= metrics["ece"] <= high <= 1


def test_the_file_gives_back_the_calibrator(calibration, parts, tmp_path):
    write_calibration(tmp_path, calibration)
    assert read_calibration(tmp_path, 4) == calibration
    logits = parts["test"][1]
    for method in ("none", "temperature", "vector"):
        write_calibration(tmp_path, calibration | {"method": method})
        read, fitted = read_calibrator(tmp_path, 4), fit_calibrator(*parts["validation"][:2])
        fitted = replace(fitted, method=method)
        np.testing.assert_array_equal(read.calibrate(logits), fitted.calibrate(logits))


def test_a_run_without_the_file_has_the_identity(tmp_path):
    assert read_calibration(tmp_path, 4) is None
    logits = np.array([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_array_equal(read_calibrator(tmp_path, 4).calibrate(logits), logits)


@pytest.mark.parametrize("classes", [1, 2, 30])
@pytest.mark.parametrize("kind", ["constant", "perfect", "wrong", "huge", "one image"])
def test_what_is_written_for_degenerate_images_is_read(kind, classes, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, 1 if kind == "one image" else 40)
    one_hot = np.eye(classes, dtype=np.float32)
    logits = {
        "constant": np.ones((len(labels), classes), np.float32),
        "perfect": 100 * one_hot[labels],
        "wrong": 100 * one_hot[(labels + 1) % classes],
        "huge": 3e38 * one_hot[(labels + 1) % classes],
        "one image": rng.normal(size=(len(labels), classes)),
    }[kind]
    part = (labels, logits, None)
    names = [f"class {i}" for i in range(classes)]
    fitted = fit_calibrator(labels, logits, "vector")
    written = summarize_calibration(fitted, names, validation=part, test=part)
    write_calibration(tmp_path, written)
    read = read_calibration(tmp_path, classes)
    assert read == written
    assert np.isfinite(calibrator_of(read).probabilities(logits)).all()


BROKEN = [
    (lambda c: c.pop("metrics"), "it lacks metrics"),
    (lambda c: c.update(method="platt"), "its method is not one of none, temperature, vector"),
    (lambda c: c.update(method=["none"]), "its method is not one of"),
    (lambda c: c.update(temperature=0), "its temperature is not a number from 0.01 to 1000"),
    (lambda c: c.update(temperature=True), "its temperature is not a number"),
    (lambda c: c.update(temperature=float("nan")), "its temperature is not a number"),
    (lambda c: c["vector"].pop("bias"), "its vector lacks bias"),
    (lambda c: c["vector"]["weights"].pop(), "its weights are not 4 finite numbers"),
    (lambda c: c["vector"]["bias"].__setitem__(0, None), "its bias are not 4 finite numbers"),
    (lambda c: c["vector"].update(bias=3), "its bias are not 4 finite numbers"),
    (lambda c: c.update(class_names=["a"]), "it has not 4 class names"),
    (lambda c: c.update(class_names=[1, 2, 3, 4]), "it has not 4 class names"),
    (lambda c: c.update(validation=3), "its validation lacks images, units"),
    (lambda c: c["validation"].update(units=0.5), "its validation is not two counts"),
    (lambda c: c["metrics"].pop("none"), "its metrics lacks none"),
    (lambda c: c["metrics"]["vector"].pop("brier"), "its metrics of vector lacks brier"),
    (lambda c: c["metrics"]["none"].update(ece=2), "impossible value of ece"),
    (lambda c: c["metrics"]["none"].update(log_loss=float("inf")), "impossible value of log_loss"),
    (lambda c: c["metrics"]["none"].update(brier=-1), "impossible value of brier"),
    (lambda c: c["metrics"]["none"].update(ece_interval=[0]), "no pair of possible values"),
    (lambda c: c["metrics"]["none"].update(ece_interval=None), "no pair of possible values"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message for _, message in BROKEN])
def test_a_broken_file_is_refused(change, message, calibration, tmp_path):
    broken = json.loads(json.dumps(calibration))
    change(broken)
    (tmp_path / "calibration.json").write_text(json.dumps(broken))
    with pytest.raises(UserError, match=r"calibration\.json is broken: .*" + message):
        read_calibrator(tmp_path, 4)


def test_a_file_of_other_classes_is_refused(calibration, tmp_path):
    write_calibration(tmp_path, calibration)
    with pytest.raises(UserError, match="not 5 finite numbers"):
        read_calibrator(tmp_path, 5)
