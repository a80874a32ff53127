"""Coverage of intervals and size of tests on small test sets: ``python -m benchmarks.coverage``.

Test sets are simulated from known confusion matrices. A 95 % interval has the nominal coverage if
it contains the macro F1 of the expected confusion matrix in 95 % of the simulations; a test at 0.05
has the right size if it rejects for 5 % of pairs of equally good models. The methods of this
project are compared with the stratified percentile bootstrap. The standard error of every rate is
below 0.007.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import tyro
from jaxtyping import Bool, Float, Int, Shaped
from scipy import special

from benchmarks.record import record, table
from lmf_jax.evaluation.calibration_error import debiased_calibration_error
from lmf_jax.evaluation.classification.metrics import classification_metrics
from lmf_jax.evaluation.classification.scores import calibration, softmax
from lmf_jax.evaluation.permutation import paired_test
from lmf_jax.evaluation.posterior import macro_f1_interval, unit_table
from lmf_jax.evaluation.resampling import percentile_interval
from lmf_jax.evaluation.segmentation.summary import bootstrap_means
from lmf_jax.evaluation.statistics import compare_means

STANDARD_ERROR = 0.007
BLOCK = 200
"""Simulations between two checks of the standard error."""

AGREEMENTS = (0.0, 0.5, 0.8)
"""Fractions of the images on which the second model repeats the prediction of the first."""

TESTS: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "1005/167/165/77/49/21/18": (
        (1005, 167, 165, 77, 49, 21, 18),
        (0.94, 0.6, 0.72, 0.65, 0.75, 0.85, 0.62),
    ),
    "14/6": ((14, 6), (0.9, 0.7)),
    "16/4": ((16, 4), (0.97, 0.9)),
    "20/7/3": ((20, 7, 3), (0.9, 0.7, 0.6)),
    "25/9/4/2": ((25, 9, 4, 2), (0.9, 0.7, 0.6, 0.6)),
    "40/14/6": ((40, 14, 6), (0.9, 0.7, 0.6)),
    "38/8/6/3/2/2/1": ((38, 8, 6, 3, 2, 2, 1), (0.94, 0.6, 0.72, 0.65, 0.75, 0.85, 0.62)),
}
"""Test images of each class, and the recall of each class in the first generator."""

CLUSTERED: dict[str, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "200/70/30": ((200, 70, 30), (0.9, 0.7, 0.6))
}


@dataclass(frozen=True)
class Options:
    """Simulate the coverage of intervals and the size of tests."""

    jobs: int = os.cpu_count() or 1
    """Processes."""


@dataclass(frozen=True)
class Scenario:
    """A distribution of test sets.

    Attributes:
        generator: A description of the recalls and of the distribution of errors.
        name: Images of each class, or a description of the clusters.
        counts: Images of each class.
        recalls: Recall of each class.
        by_frequency: Fraction of the errors distributed over the other classes by frequency; the
            rest is distributed evenly.
        clusters: "none"; "lesion": 1 to 6 images of one class; "patient": 1 to 6 images of any.
    """

    generator: str
    name: str
    counts: tuple[int, ...]
    recalls: tuple[float, ...]
    by_frequency: float
    clusters: str = "none"

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.counts)

    def rates(self) -> Float[np.ndarray, "classes classes"]:
        """Return the probability of each prediction by true class."""
        other = ~np.eye(self.num_classes, dtype=bool)
        frequency = other * np.array(self.counts, float)
        frequency /= frequency.sum(axis=1, keepdims=True)
        even = other / other.sum(axis=1, keepdims=True)
        recall = np.array(self.recalls)
        errors = self.by_frequency * frequency + (1 - self.by_frequency) * even
        return (1 - recall)[:, None] * errors + np.diag(recall)


@dataclass(frozen=True)
class SimulatedTest:
    """Labels of a simulated test, and the cluster of each image; None for independent images."""

    labels: Int[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None


def scenarios() -> list[Scenario]:
    """Return both generators of independent images, and clusters."""
    first = [
        Scenario("half by frequency", name, counts, recalls, 0.5)
        for name, (counts, recalls) in TESTS.items()
    ]
    second = [
        Scenario("even, .9 to .55", name, counts, tuple(np.linspace(0.9, 0.55, len(counts))), 0.0)
        for name, (counts, _) in TESTS.items()
    ]
    clustered = [
        Scenario("half by frequency", f"{kind}s, {name}", *(TESTS | CLUSTERED)[name], 0.5, kind)
        for kind, name in (
            ("lesion", "40/14/6"),
            ("lesion", "200/70/30"),
            ("patient", "40/14/6"),
            ("patient", "200/70/30"),
        )
    ]
    return first + second + clustered


def draw_test(scenario: Scenario, rng: np.random.Generator) -> SimulatedTest:
    """Draw the labels of the images and their clusters."""
    labels = np.repeat(np.arange(scenario.num_classes), scenario.counts)
    if scenario.clusters == "none":
        return SimulatedTest(labels, None)
    if scenario.clusters == "patient":
        labels = rng.permutation(labels)
    sizes = rng.integers(1, 7, size=len(labels))
    cluster = np.repeat(np.arange(len(labels)), sizes)[: len(labels)]
    if scenario.clusters == "lesion":  # a cluster ends where its class does
        cluster = cluster * scenario.num_classes + labels
    return SimulatedTest(labels, cluster.astype(str))


def draw_predictions(
    scenario: Scenario, test: SimulatedTest, rng: np.random.Generator
) -> Int[np.ndarray, " n"]:
    """Draw predictions; half of the images of a cluster share one draw."""
    n = len(test.labels)
    uniform = rng.random(n)
    if test.groups is not None:
        cluster = _cluster_ids(test.groups)
        uniform = np.where(rng.random(n) < 0.5, rng.random(n)[cluster], uniform)
    # The true class comes first, so a small number is a correct prediction in every class.
    order = np.argsort(~np.eye(scenario.num_classes, dtype=bool), axis=1, kind="stable")
    cumulative = np.take_along_axis(scenario.rates(), order, axis=1).cumsum(axis=1)
    place = (uniform[:, None] >= cumulative[test.labels]).sum(axis=1)
    return order[test.labels, place.clip(max=scenario.num_classes - 1)]


def stratified_bootstrap(
    test: SimulatedTest,
    predictions: Int[np.ndarray, "models n"],
    num_classes: int,
    rng: np.random.Generator,
    num_resamples: int = 2000,
) -> Float[np.ndarray, "resamples models"]:
    """Return the macro F1 of resamples of the images, or of the clusters, of each class."""
    groups = test.groups
    if groups is not None:  # the images of a cluster in each class form a cluster of their own
        groups = np.char.add(np.char.add(test.labels.astype(str), " "), groups)
    units = unit_table(test.labels, predictions, num_classes=num_classes, groups=groups)
    class_of = units.cells[:, 0].sum(axis=-1).argmax(axis=-1)
    confusions = np.zeros((num_resamples, *units.cells.shape[1:]))
    for label in range(num_classes):
        rows = class_of == label
        repeats = units.repeats[rows]
        if repeats.sum():
            drawn = rng.multinomial(repeats.sum(), repeats / repeats.sum(), size=num_resamples)
            confusions += np.tensordot(drawn.astype(float), units.cells[rows], axes=1)
    hits = np.diagonal(confusions, axis1=-2, axis2=-1)
    total = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    return (2 * hits / np.where(total > 0, total, 1)).mean(axis=-1)


def percentile_p(differences: Float[np.ndarray, " resamples"]) -> float:
    """Return the p-value of a bootstrap: twice the fraction on the rarer side of zero."""
    fewer = min((differences <= 0).sum(), (differences >= 0).sum())
    return min(1.0, 2 * (1 + int(fewer)) / (1 + len(differences)))


def until_precise(simulate: Callable[[int], dict[str, Any]], shares: list[str]) -> dict[str, Any]:
    """Simulate until the standard errors of the rates are below the bound.

    Args:
        simulate: A function from the number of a simulation to its values.
        shares: Names of the values that are 0 or 1.

    Returns:
        Number of simulations, the mean of each rate, and the median of every other value.
    """
    values: dict[str, list[float]] = {}
    simulations = 0
    while True:
        for number in range(simulations, simulations + BLOCK):
            for name, value in simulate(number).items():
                values.setdefault(name, []).append(value)
        simulations += BLOCK
        means = np.array([np.mean(values[name]) for name in shares])
        # A share of 0 after few simulations may still be 0.02.
        errors = np.sqrt((means * (1 - means)).clip(min=0.02 * 0.98) / simulations)
        if errors.max() < STANDARD_ERROR:
            break
    summary: dict[str, Any] = {"simulations": simulations}
    for name, column in values.items():
        summary[name] = float(np.mean(column) if name in shares else np.median(column))
    return summary


def measure(scenario: Scenario) -> dict[str, Any]:
    """Return coverage and width of the intervals and size of the tests of one scenario."""
    row: dict[str, Any] = {"errors": scenario.generator, "test": scenario.name}
    intervals = until_precise(partial(_simulate_intervals, scenario), ["bootstrap", "coverage"])
    row |= {
        "coverage": intervals["coverage"],
        "bootstrap": intervals["bootstrap"],
        "width": intervals["width"],
        "bootstrap width": intervals["bootstrap width"],
    }
    for agreement in AGREEMENTS:
        simulate = partial(_simulate_tests, scenario, scenario, agreement)
        found = until_precise(simulate, ["test", "bootstrap"])
        row[f"size {agreement:g}"] = found["test"]
        row[f"bootstrap size {agreement:g}"] = found["bootstrap"]
    return row


def _simulate_intervals(scenario: Scenario, number: int) -> dict[str, float]:
    rng, num_classes = np.random.default_rng(number), scenario.num_classes
    test = draw_test(scenario, rng)
    predictions = draw_predictions(scenario, test, rng)
    expected = np.array(scenario.counts)[:, None] * scenario.rates()
    truth = float(classification_metrics(expected).macro_f1)
    low, high = macro_f1_interval(
        test.labels, predictions, num_classes=num_classes, groups=test.groups, seed=number
    )
    samples = stratified_bootstrap(test, predictions[None], num_classes, rng)
    old_low, old_high = percentile_interval(samples[:, 0])
    # Resamples are sums of floats: an end equal to the truth may differ by rounding.
    return {
        "coverage": low - 1e-9 <= truth <= high + 1e-9,
        "bootstrap": old_low - 1e-9 <= truth <= old_high + 1e-9,
        "width": high - low,
        "bootstrap width": float(old_high - old_low),
    }


def _simulate_tests(
    first: Scenario, second: Scenario, agreement: float, number: int
) -> dict[str, float]:
    rng, num_classes = np.random.default_rng(number), first.num_classes
    test = draw_test(first, rng)
    a, b = (draw_predictions(scenario, test, rng) for scenario in (first, second))
    b = np.where(_agree(test, agreement, rng), a, b)
    p_value = paired_test(
        test.labels, a, b, num_classes=num_classes, groups=test.groups, seed=number
    )
    samples = stratified_bootstrap(test, np.stack([a, b]), num_classes, rng)
    return {
        "test": p_value < 0.05,
        "bootstrap": percentile_p(samples[:, 0] - samples[:, 1]) < 0.05,
    }


def _agree(
    test: SimulatedTest, probability: float, rng: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Draw the images, or clusters, on which the second model repeats the first."""
    repeats = rng.random(len(test.labels)) < probability
    return repeats if test.groups is None else repeats[_cluster_ids(test.groups)]


def _cluster_ids(groups: Shaped[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.unique(groups, return_inverse=True)[1]


def measure_power(pair: tuple[str, tuple[float, ...], tuple[float, ...]]) -> dict[str, Any]:
    """Return the power of the tests for a real difference."""
    name, worse, better = pair
    counts = TESTS[name][0]
    first, second = (Scenario("", name, counts, recalls, 0.5) for recalls in (worse, better))
    found = until_precise(partial(_simulate_tests, first, second, 0.0), ["test", "bootstrap"])
    return {
        "test": name,
        "recalls": " against ".join("/".join(map(str, recalls)) for recalls in (worse, better)),
        "power": found["test"],
        "bootstrap power": found["bootstrap"],
    }


def measure_segmentation(num_cases: int) -> dict[str, Any]:
    """Return the size of the test of the mean DSC of two equal models, and coverages."""
    shares = ["size", "bootstrap size", "coverage", "bootstrap"]
    found = until_precise(partial(_simulate_segmentation, num_cases), shares)
    return {"cases": num_cases, **found}


def _simulate_segmentation(num_cases: int, number: int) -> dict[str, float]:
    rng = np.random.default_rng(number)
    # DSC is skewed, with a mean of 0.84, and the difficulty of a case is common to both models.
    case = rng.normal(2.0, 0.8, size=num_cases)
    first, second = special.expit(case + rng.normal(0, 0.8, size=(2, num_cases)))
    differences = first - second
    samples = bootstrap_means(differences, seed=number)
    found = compare_means(differences, samples)
    low, high = percentile_interval(samples)
    return {
        "size": found.p_value < 0.05,
        "bootstrap size": percentile_p(samples) < 0.05,
        "coverage": found.low <= 0 <= found.high,
        "bootstrap": float(low) <= 0 <= float(high),
        "width": found.high - found.low,
        "bootstrap width": float(high - low),
    }


def measure_calibration(case: tuple[int, float]) -> dict[str, Any]:
    """Return the coverage of the interval of the calibration error."""
    n, temperature = case
    rng = np.random.default_rng(2**32)
    logits = 2 * rng.normal(size=(200_000, 7))
    stated = calibration(logits.argmax(axis=1), softmax(logits / temperature))
    gaps = np.asarray(stated.in_bin) @ (softmax(logits).max(axis=1) - np.asarray(stated.confidence))
    truth = float(abs(gaps).sum()) / len(logits)

    def simulate(number: int) -> dict[str, float]:
        rng = np.random.default_rng(number)
        logits = 2 * rng.normal(size=(n, 7))
        labels = (softmax(logits).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=6)
        found = debiased_calibration_error(
            calibration(labels, softmax(logits / temperature)), seed=number
        )
        return {
            "coverage": found.low - 1e-9 <= truth <= found.high + 1e-9,
            "ECE": found.value,
            "plain ECE": found.observed,
            "width": found.high - found.low,
        }

    found = until_precise(simulate, ["coverage"])
    return {"images": n, "temperature": temperature, "true ECE": truth, **found}


def main() -> None:
    """Measure all rows in parallel and print four tables."""
    options = tyro.cli(Options)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the processes take all cores
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        power = pool.map(measure_power, [("40/14/6", (0.7, 0.55, 0.5), (0.95, 0.85, 0.8))])
        segmentation = pool.map(measure_segmentation, (5, 8, 12, 20, 32))
        cases = [(n, temperature) for n in (40, 200, 1502) for temperature in (1.0, 0.5)]
        errors = pool.map(measure_calibration, cases)
        rows: Iterator[dict[str, Any]] = pool.map(measure, scenarios())
        facts: dict[str, Any] = {
            "power": list(power),
            "segmentation": list(segmentation),
            "ece": list(errors),
        }
        record("coverage", rows, **facts)
    for fact_rows in facts.values():
        print(table(fact_rows))


if __name__ == "__main__":
    main()
