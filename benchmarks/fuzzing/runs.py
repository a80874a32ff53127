"""Targets that read the folder of a classification run."""

import dataclasses
import functools
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.mutations import changed_bytes, changed_files, changed_json
from benchmarks.fuzzing.npz import changed_npz
from lmf_jax.config import Config
from lmf_jax.evaluation.calibration import fit_calibrator, summarize_calibration
from lmf_jax.evaluation.classification.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.classification.mistakes import Mistakes, confident_mistakes
from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.evaluation.classification.subgroups import summarize_test_subgroups
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.conformal.summary import Part, summarize_sets
from lmf_jax.evaluation.formatting import format_setting
from lmf_jax.evaluation.operating import thresholds
from lmf_jax.evaluation.operating.point import ClassPart, operating_point
from lmf_jax.evaluation.report import write_report
from lmf_jax.inference.image_model import recorded_encoding
from lmf_jax.models.normalization import Normalization
from lmf_jax.runs.best_checkpoint import read_best
from lmf_jax.runs.checksum import record_checksum, tree_checksum
from lmf_jax.runs.files import read_record
from lmf_jax.runs.folder import read_config

CLASSES = ("a", "b", "c")
LABELS = np.array([0, 0, 0, 1, 1, 2, 0, 1])


def good_record() -> dict[str, Any]:
    """Return the contents of a valid ``config.json``."""
    counts = {"train": [9, 4, 2], "validation": [4, 3, 1], "test": [4, 3, 1]}
    config = Config().resolve({"split": "paper", "image_size": 32})
    return {
        "config": config.record(),
        "dataset": {
            "name": "own",
            "fingerprint": "0123abcd",
            "class_names": list(CLASSES),
            "class_counts": counts,
        },
        "versions": {"lmf_jax": "0.1.0", "python": "3.11.7"},
        "git_commit": None,
        "device": {"platform": "cpu", "kind": "cpu", "count": 1, "process_count": 1},
    }


def _record_with_metadata() -> dict[str, Any]:
    """Return the contents of a valid ``config.json`` of a run with metadata beside the image."""
    record = good_record()
    record["config"]["metadata"] = "age,sex"
    age = {"name": "age", "kind": "number", "mean": 50.0, "std": 12.5}
    sex = {"name": "sex", "kind": "category", "values": ["f", "m"]}
    record["dataset"] |= {"metadata": [age, sex], "metadata_fingerprint": "0123abcd"}
    return record


def _history() -> list[dict[str, Any]]:
    metrics = {"learning_rate": 1e-3, "train_loss": 0.5, "val_loss": 0.6, "val_accuracy": 0.5}
    return [
        {"epoch": i, "step": 3 * i, "val_macro_f1": f1, **metrics}
        for i, f1 in enumerate((0.4, 0.6, 0.5), start=1)
    ]


def _timing() -> list[dict[str, Any]]:
    """Return the lines of ``timing.jsonl``."""
    return [{"epoch": i, "seconds": 2.0, "images_per_second": 7.0} for i in (1, 2, 3)]


@functools.cache
def _predictions() -> dict[str, np.ndarray]:
    logits = np.random.default_rng(0).normal(size=(len(LABELS), 3)).astype(np.float32)
    ids = np.array([f"image-{i}" for i in range(len(LABELS))])
    return {"ids": ids, "labels": LABELS, "logits": logits, "groups": ids}


@functools.cache
def _mistakes() -> dict[str, np.ndarray]:
    places = confident_mistakes(LABELS, _predictions()["logits"])
    m = len(places)
    heats = np.ones((2, m, 2, 2), np.float32)
    return Mistakes(places, np.zeros((m, 8, 8, 3), np.uint8), *heats).arrays


@functools.cache
def _test() -> dict[str, Any]:
    arrays = _predictions()
    return summarize_test(arrays["labels"], arrays["logits"], CLASSES, arrays["groups"])


@functools.cache
def _subgroups() -> dict[str, Any]:
    arrays = _predictions()
    metadata = {"sex": np.array(["f", "m"] * 4), "note": np.full(len(LABELS), "x")}
    found = summarize_test_subgroups(LABELS, arrays["logits"], metadata, arrays["groups"])
    assert found is not None
    return found


@functools.cache
def _sets() -> dict[str, Any]:
    arrays = _predictions()
    part = Part(arrays["labels"], softmax(arrays["logits"]), arrays["groups"])
    return {
        **summarize_sets(part, part, CLASSES, level=0.75),
        "calibrator": {"method": "none"},
    }


@functools.cache
def _calibration() -> dict[str, Any]:
    made = _predictions()
    part = made["labels"], made["logits"], made["groups"]
    return summarize_calibration(fit_calibrator(*part[:2]), CLASSES, validation=part, test=part)


@functools.cache
def _points() -> dict[str, Any]:
    """Return the points of the run's calibrator, which the report draws."""
    made = _predictions()
    calibrator = fit_calibrator(made["labels"], made["logits"])
    probability = calibrator.probabilities(made["logits"])[:, 0]
    part = ClassPart(made["labels"] == 0, probability, made["groups"])
    target = thresholds.Target("sensitivity", 0.9)
    point = operating_point("a", target, part, part, prevalence=0.1)
    return {"points": {"one": {**point, "calibrator": calibrator.used_parameters()}}}


def lines_of(rows: list[dict[str, Any]]) -> bytes:
    """Return a file with one JSON object per line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def npz_of(arrays: Mapping[str, Any]) -> bytes:
    """Return an npz file of some arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def run_files(
    record: dict[str, Any],
    history: list[dict[str, Any]],
    test: dict[str, Any],
    arrays: Mapping[str, Mapping[str, Any]],
) -> Files:
    """Return the files of a run; the arrays are those of its npz files, by name."""
    return {
        "config.json": json.dumps(record).encode(),
        "metrics.jsonl": lines_of(history),
        "timing.jsonl": lines_of(_timing()),
        "test.json": json.dumps(test).encode(),
        **{name: npz_of(content) for name, content in arrays.items()},
    }


def changed_run(files: Files) -> SearchStrategy[Files]:
    """Return a strategy of runs of which one or two files are changed or missing."""
    strategies = {}
    for name, content in files.items():
        if name.endswith(".npz"):
            with np.load(io.BytesIO(content)) as arrays:
                changed = changed_npz(dict(arrays))
        elif name.endswith(".jsonl"):
            changed = changed_lines([json.loads(line) for line in content.splitlines()])
        else:
            changed = changed_json(json.loads(content))
        strategies[name] = or_bytes(content, changed)
    return changed_files(files, strategies)


@functools.cache
def good_run() -> Files:
    """Return the files of a run that was trained and tested."""
    arrays = {
        "predictions.npz": _predictions(),
        "mistakes.npz": _mistakes(),
        "validation_predictions.npz": _predictions(),
    }
    more = {"prediction_sets.json": _sets(), "calibration.json": _calibration()}
    more |= {"subgroups.json": _subgroups(), "operating_points.json": _points()}
    files = run_files(good_record(), _history(), _test(), arrays)
    return {**files, **{name: json.dumps(content).encode() for name, content in more.items()}}


def changed_lines(rows: list[dict[str, Any]]) -> SearchStrategy[bytes]:
    """Return a strategy of files in which one line is changed."""
    first = lines_of(rows[:1])
    return changed_json(rows[1]).map(lambda line: first + line + b"\n" + lines_of(rows[2:]))


def or_bytes(good: bytes, changed: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    """Return a strategy that mostly draws changed files, and otherwise edits their bytes."""
    return st.one_of(changed, changed, changed, changed_bytes([good]))


def _bad_runs() -> SearchStrategy[Files]:
    return changed_run(good_run())


def _bad_records() -> SearchStrategy[Files]:
    changed = or_bytes(
        good_run()["config.json"],
        st.one_of(changed_json(good_record()), changed_json(_record_with_metadata())),
    )
    return changed.map(lambda content: {"config.json": content})


def check_run(run: FinishedRun) -> None:
    """Check the invariants of :class:`FinishedRun` that pages and tables rely on."""
    n, classes = len(run.labels), run.dataset["class_names"]
    assert run.logits.shape == (n, len(classes))
    assert run.logits.dtype.kind == "f"
    assert run.labels.dtype.kind in "iu"
    assert run.ids.shape == (n,)
    assert run.ids.dtype.kind == "U"
    assert all(isinstance(line["epoch"], int) for line in run.history)
    assert all(float(line["val_macro_f1"]) < 1e31 for line in run.history)
    assert list(run.test["per_class"]) == classes
    for value in run.config.values():
        assert format_setting(value).isprintable()
    train_counts = run.dataset["class_counts"]["train"]
    table = format_test_table(run.test, train_counts, calibration=run.calibration)
    assert len(table.splitlines()) >= len(classes)
    probabilities = run.calibrator.probabilities(run.logits)
    assert np.isfinite(probabilities).all()
    assert run.validation is None or run.validation.logits.shape[1] == len(classes)
    if run.mistakes is not None:
        assert len(run.mistakes.images) == len(run.ids[run.mistakes.indices])


def _read_run(folder: Path) -> None:
    check_run(read_run(folder))


def check_report(folder: Path) -> None:
    """Write the report of a run and check that it has no script."""
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<script" not in page


@contextmanager
def written(files: Files) -> Iterator[Path]:
    """Write files into a temporary folder and yield it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        yield Path(folder)


def _compare(folder: Path) -> None:
    """Compare with a valid run."""
    with written(good_run()) as other:
        assert format_comparison(compare_runs([folder, other]))


def _read_config(folder: Path) -> None:
    config = read_config(folder)
    assert isinstance(config, Config)
    assert all(
        value is None or isinstance(value, (bool, int, float, str))
        for value in config.record().values()
    )
    encoding = recorded_encoding(read_record(folder)["dataset"])
    if encoding is not None:
        features = encoding.encode({"age": np.array(["30", "x"]), "sex": np.array(["f", ""])}, 2)
        assert features.shape == (2, sum(encoding.widths))
        assert np.isfinite(features).all()


@functools.cache
def _checkpoint() -> Files:
    """Return the files of a checkpoint of a model with a single kernel."""
    weights = {"kernel": np.ones((2, 3), np.float32)}
    state = {"params": weights, "batch_stats": {}, "ema": None, "step": np.array(3)}
    record: dict[str, Any] = {
        "input": {"next_index": 3},
        "history": _history()[:1],
        "normalisation": dataclasses.asdict(Normalization((0.5,) * 3, (0.5,) * 3, "rgb")),
        "checksums": {name: tree_checksum(values) for name, values in state.items()},
    }
    record["checksum"] = record_checksum(record)
    with tempfile.TemporaryDirectory() as folder:
        options = ocp.CheckpointManagerOptions()
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(use_compression=False),
            "record": ocp.JsonCheckpointHandler(),
        }
        with ocp.CheckpointManager(folder, options=options, item_handlers=handlers) as manager:
            arguments = ocp.args.Composite(
                state=ocp.args.PyTreeSave(state), record=ocp.args.JsonSave(record)
            )
            manager.save(3, args=arguments)
        root = Path(folder)
        found = sorted(path for path in root.rglob("*") if path.is_file())
        return {str(path.relative_to(root)): path.read_bytes() for path in found}


def _bad_checkpoints() -> SearchStrategy[Files]:
    good = _checkpoint()
    strategies = {}
    for name, content in good.items():
        strategies[name] = changed_bytes([content])
        try:
            value = json.loads(content)
        except ValueError:
            continue
        changed = changed_json(value)
        strategies[name] = or_bytes(content, st.one_of(changed, changed.map(_signed)))
    return changed_files(good, strategies)


def _signed(content: bytes) -> bytes:
    """Return a record with its checksum, if it is a mapping."""
    try:
        record = json.loads(content)
        unsigned = {name: value for name, value in record.items() if name != "checksum"}
        return json.dumps({**unsigned, "checksum": record_checksum(unsigned)}).encode()
    except (ValueError, AttributeError, RecursionError):
        return content


def _read_checkpoint(folder: Path) -> None:
    variables, normalization = read_best(folder)
    assert isinstance(variables, Mapping)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))
    assert isinstance(normalization, Normalization)
    values = (*normalization.mean, *normalization.std)
    assert len(values) == 6
    assert all(isinstance(value, (int, float)) for value in values)


TARGETS = (
    Target("run", _bad_runs, _read_run),
    Target("config", _bad_records, _read_config),
    Target("report", _bad_runs, check_report, cost=40),
    Target("comparison", _bad_runs, _compare, cost=10),
    Target("checkpoint", _bad_checkpoints, _read_checkpoint, cost=20),
)
