import itertools
import json
import os
import re
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from lmf_jax.config import Config
from lmf_jax.errors import Interrupted, Preempted, TrainingStopped, UserError
from lmf_jax.runs.best_checkpoint import read_best
from lmf_jax.training import classification, loop
from lmf_jax.training import program as program_module
from lmf_jax.training import progress as progress_module
from lmf_jax.training.checkpoint import Checkpoints
from lmf_jax.training.classification import Classification
from lmf_jax.training.optimizer import set_lr_scale, step_decay
from lmf_jax.training.program import Validation
from lmf_jax.training.progress import Progress
from tests.helpers.tiny_training import NUM_CLASSES, random_batch, tiny_model

COUNTS = [24, 18, 6]  # six batches of eight
CONFIG = Config.of(
    image_size=32, epochs=3, batch_size=8, learning_rate=1e-2, decay_epochs=2, augment="shift"
).resolve({})


RESUMED = CONFIG.replace(resume=True, run_dir="given by run")


class Stream:
    """Endless random batches, each a function of its position alone; some may be changed."""

    def __init__(self):
        self.position = 0
        self.at = {}

    def __next__(self):
        batch = random_batch(self.position, 8)
        self.at.get(self.position, lambda batch: None)(batch)
        self.position += 1
        return batch

    def get_state(self):
        return {"next_index": self.position}

    def set_state(self, state):
        self.position = state["next_index"]


def validation(size=13):
    """Thirteen examples in batches of eight: the second is padded."""
    batch = random_batch(99, 16)
    return [
        {
            "image": batch["image"][start : start + 8],
            "label": batch["label"][start : start + 8],
            "mask": np.arange(start, start + 8) < size,
        }
        for start in (0, 8)
    ]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(
        classification, "create_model", lambda name, **settings: tiny_model(**settings)
    )


@pytest.fixture(scope="module")
def compiled():
    return {}


def program_of(config, compiled):
    """Programs are compiled once per settings of the step."""
    same = {"resume": False, "run_dir": "", "early_stopping": 0, "checkpoint_steps": 0}
    key = config.replace(**same)
    if key not in compiled:
        compiled[key] = classification.make_classification(config, COUNTS)
    return compiled[key]


def run(folder: Path, compiled, config=CONFIG, stream=None):
    config = config.replace(run_dir=str(folder))
    stream = stream or Stream()
    return loop.fit(
        config.training, config.run, program_of(config, compiled), folder, stream, validation()
    )


def metrics(folder: Path):
    return (folder / "metrics.jsonl").read_text()


def check_resumes_to_the_same_bits(folder: Path, compiled, expected):
    """Resume a run; compare it with the folder ``whole`` and its variables."""
    variables = run(folder, compiled, RESUMED)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert metrics(folder) == metrics(folder.parent / "whole")


def changed(validation: Validation, **metrics):
    return validation._replace(metrics=validation.metrics | metrics)


def rows(folder: Path):
    return [json.loads(line) for line in metrics(folder).splitlines()]


def assert_same_state(folder: Path, other: Path, program):
    """Assert that the newest checkpoints are equal, with optimizer state and input position."""
    newest = []
    for checkpoints in (folder / "checkpoints", other / "checkpoints"):
        settings = program.settings.normalization, program.score
        reader = Checkpoints(checkpoints, *settings)
        newest.append(reader.restore_latest(program.state_shapes()))
        reader.close()
    jax.tree.map(np.testing.assert_array_equal, *newest)


def test_an_epoch_leaves_a_line_and_a_checkpoint(tmp_path, compiled, capsys):
    variables = run(tmp_path, compiled)
    assert set(variables) == {"params", "batch_stats"}
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3]
    fields = {"epoch", "step", "train_loss", "val_loss", "val_accuracy", "val_macro_f1"}
    assert set(rows(tmp_path)[0]) == fields | {"learning_rate"}
    np.testing.assert_allclose([r["learning_rate"] for r in rows(tmp_path)], [1e-2, 1e-2, 1e-3])
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in timing] == [1, 2, 3]
    assert all(row["images_per_second"] > 0 for row in timing)
    assert list((tmp_path / "tensorboard").iterdir())
    printed = capsys.readouterr().out.splitlines()
    printed = [line for line in printed if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in printed] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]


def test_the_rate_of_a_row_is_that_of_every_update_of_its_epoch(tmp_path, monkeypatch):
    """Of an epoch before a decay that is the rate before it."""
    used = {}

    def observed_decay(*args, **options):
        schedule = step_decay(*args, **options)

        def observed(count):
            rate = schedule(count)
            jax.debug.callback(lambda c, r: used.setdefault(int(c), float(r)), count, rate)
            return rate

        return observed

    monkeypatch.setattr(program_module, "step_decay", observed_decay)
    run(tmp_path, {}, CONFIG.replace(decay_epochs=1))
    jax.effects_barrier()
    assert sorted(used) == list(range(18))
    logged = [row["learning_rate"] for row in rows(tmp_path)]
    assert [used[count] for count in range(18)] == [rate for rate in logged for _ in range(6)]
    np.testing.assert_allclose(logged, [1e-2, 1e-3, 1e-4])


def test_the_rate_of_a_row_on_a_plateau_is_that_of_its_epoch(tmp_path, monkeypatch):
    shares = []

    def observed_share(opt_state, share):
        shares.append(share)
        return set_lr_scale(opt_state, share)

    real = Classification.validate
    monkeypatch.setattr(Classification, "validate", lambda *a: changed(real(*a), val_loss=1.0))
    monkeypatch.setattr(loop, "set_lr_scale", observed_share)
    run(tmp_path, {}, CONFIG.replace(schedule="plateau", decay_epochs=1))
    np.testing.assert_allclose(shares, [1, 1, 0.1])
    logged = [row["learning_rate"] for row in rows(tmp_path)]
    np.testing.assert_allclose(logged, 1e-2 * np.array(shares))


def test_the_variables_returned_are_those_of_the_best_epoch(tmp_path, compiled):
    variables = run(tmp_path, compiled)
    program = program_of(CONFIG, compiled)
    logits, labels = classification.predict(program.predict_step, variables, validation())
    best = max(rows(tmp_path), key=lambda row: row["val_macro_f1"])
    assert np.mean(logits.argmax(-1) == labels) == pytest.approx(best["val_accuracy"])


def test_prediction_covers_every_example_once_in_order(compiled):
    program = program_of(CONFIG, compiled)
    state = program.initial_state()
    logits, labels = classification.predict(
        program.predict_step, state.evaluation_variables, validation(size=13)
    )
    assert logits.shape == (13, NUM_CLASSES)
    np.testing.assert_array_equal(labels, random_batch(99, 16)["label"][:13])
    alone = {name: values[8:] for name, values in random_batch(99, 16).items()}
    alone["mask"] = np.ones(8, bool)
    again, _ = classification.predict(program.predict_step, state.evaluation_variables, [alone])
    np.testing.assert_allclose(logits[8:], again[:5], rtol=1e-5, atol=1e-6)


def test_a_run_that_died_before_its_first_checkpoint_is_resumed_from_the_start(tmp_path, compiled):
    expected = run(tmp_path / "whole", compiled)
    (tmp_path / "dead").mkdir()
    resumed = CONFIG.replace(resume=True, run_dir="given by run")
    variables = run(tmp_path / "dead", compiled, resumed)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def test_a_row_that_a_killed_run_did_not_write_is_written_on_resuming(tmp_path, compiled):
    run(tmp_path, compiled)
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text("".join(whole.splitlines(keepends=True)[:-1]))
    run(tmp_path, compiled, CONFIG.replace(resume=True, run_dir="given by run"))
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_ctrl_c_while_the_last_epoch_is_validated_is_not_lost(tmp_path, compiled, monkeypatch):
    def interrupted_validate(program, variables, batches, step):
        figures = real(program, variables, batches, step)
        if step == program.settings.total_steps:
            os.kill(os.getpid(), signal.SIGINT)
        return figures

    real = Classification.validate
    monkeypatch.setattr(Classification, "validate", interrupted_validate)
    with pytest.raises(Interrupted, match=r"step 18 \(epoch 3\)"):
        run(tmp_path, compiled)
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3]


def test_the_step_that_compiles_counts_no_images(tmp_path):
    progress = Progress(tmp_path, epochs=2, steps=2, batch_size=16, history=[])
    row = {"step": 1, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}
    row |= {"val_macro_f1": 0.5, "learning_rate": 1e-3}
    progress.add()
    progress.end_epoch([row | {"epoch": 1}])
    progress.add()
    progress.end_epoch([row | {"epoch": 1}, row | {"epoch": 2}])
    progress.close()
    first, second = (
        json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()
    )
    assert (first["seconds"], first["images_per_second"]) == (0, None)
    assert second["images_per_second"] == pytest.approx(16 / second["seconds"])


def test_the_end_of_a_run_is_estimated_once_from_its_first_steps(tmp_path, compiled, capsys):
    run(tmp_path, compiled)
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if "steps left" in line]
    # Of three epochs of six steps, one step compiles and three are measured.
    assert re.match(r"14 steps left; at \S+ s each, .* about .* \(until \d\d:\d\d\)", line)
    after_compilation = next(n for n, line in enumerate(lines) if "of compilation" in line)
    assert lines[after_compilation + 1] == line
    assert lines[after_compilation + 2].startswith("epoch 1/3")


def test_the_estimate_is_the_time_per_step_times_the_steps_left(tmp_path, monkeypatch, capsys):
    clock = itertools.count(100.0, 20.0)
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: next(clock))
    progress = Progress(tmp_path, epochs=2, steps=10, batch_size=16, history=[])
    waits = []
    for _ in range(5):
        waits.append(progress.waits_for_step)
        progress.add()
    progress.close()
    assert waits == [True, False, False, True, False]
    text = capsys.readouterr().out
    assert "6 steps left; at 20 s each, as the last 3, they take about 2 min 0 s" in text


def test_a_model_that_answers_one_class_says_so_once(tmp_path, compiled, monkeypatch, capsys):
    answers = iter([True, True, False, True, True, True, True, True])
    real = Classification.validate
    monkeypatch.setattr(
        Classification, "validate", lambda *a: real(*a)._replace(is_constant=next(answers))
    )
    run(tmp_path, compiled, CONFIG.replace(epochs=8))
    lines = capsys.readouterr().out.splitlines()
    [number] = [n for n, line in enumerate(lines) if "one class for every validation" in line]
    assert lines[number - 1].startswith("epoch 6/8")
    assert "try --pretrained" in lines[number]


@pytest.mark.parametrize("stop_at", [4, 6, 9, 17])
def test_a_run_stopped_by_ctrl_c_goes_on_bit_for_bit(tmp_path, compiled, stop_at):
    config = CONFIG.replace(ema_decay=0.9)
    expected = run(tmp_path / "whole", compiled, config)
    stream = Stream()
    stream.at[stop_at] = lambda batch: os.kill(os.getpid(), signal.SIGINT)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"--resume --run-dir {tmp_path / 'stopped'}"):
        run(tmp_path / "stopped", compiled, config, stream)
    assert signal.getsignal(signal.SIGINT) is before
    resumed = config.replace(resume=True, run_dir="given by run")
    variables = run(tmp_path / "stopped", compiled, resumed)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    whole, stopped = (tmp_path / name / "metrics.jsonl" for name in ("whole", "stopped"))
    assert stopped.read_text() == whole.read_text()


def test_a_finished_run_can_be_resumed_and_changes_nothing(tmp_path, compiled):
    variables = run(tmp_path, compiled)
    metrics = (tmp_path / "metrics.jsonl").read_text()
    again = run(tmp_path, compiled, CONFIG.replace(resume=True, run_dir="given by run"))
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    assert (tmp_path / "metrics.jsonl").read_text() == metrics


@pytest.mark.parametrize("schedule", ["step", "plateau"])
def test_a_finished_run_goes_on_for_more_epochs_as_if_it_had_had_them(tmp_path, compiled, schedule):
    config = CONFIG.replace(epochs=4, ema_decay=0.9, schedule=schedule)
    expected = run(tmp_path / "whole", compiled, config)
    run(tmp_path / "longer", compiled, config.replace(epochs=2))
    assert len(rows(tmp_path / "longer")) == 2
    resumed = config.replace(resume=True, run_dir="given by run")
    variables = run(tmp_path / "longer", compiled, resumed)
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert metrics(tmp_path / "longer") == metrics(tmp_path / "whole")
    program = program_of(config, compiled)
    assert_same_state(tmp_path / "longer", tmp_path / "whole", program)


def test_fewer_epochs_than_the_newest_checkpoint_has_are_refused(tmp_path, compiled):
    run(tmp_path, compiled)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"has finished 3 epochs, more than --epochs 2"):
        run(tmp_path, compiled, RESUMED.replace(epochs=2))


@pytest.mark.fault(
    "a loss or gradient is not finite",
    "the run stopped and named step and epoch; the last good checkpoint was kept",
)
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_epoch(tmp_path, compiled):
    whole = CONFIG.replace(epochs=1)
    run(tmp_path, compiled, whole)
    endless = RESUMED.replace(learning_rate=1e38)
    with pytest.raises(TrainingStopped, match=r"step 8 \(epoch 2\).*check the images"):
        run(tmp_path, compiled, endless)
    assert [int(path.name) for path in (tmp_path / "checkpoints").iterdir()] == [6]
    assert [row["epoch"] for row in rows(tmp_path)] == [1]


@pytest.mark.fault(
    "a label below 0, or past the last class, in a batch",
    "refused, with the label",
)
@pytest.mark.parametrize("label", [-1, NUM_CLASSES])
def test_a_label_that_is_no_class_is_named(tmp_path, compiled, label):
    stream = Stream()
    stream.at[8] = lambda batch: batch["label"].__setitem__(3, label)
    with pytest.raises(
        ValueError, match=f"holds the label {label}; expected class ids from 0 to 2"
    ):
        run(tmp_path, compiled, stream=stream)


@pytest.mark.fault(
    "NaN pixels in a batch",
    "refused: only bytes are taken, and those cannot be NaN",
)
def test_pixels_that_are_no_bytes_are_refused(tmp_path, compiled):
    stream = Stream()
    stream.at[8] = lambda batch: batch.update(image=np.full((8, 16, 16, 3), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"images of float32; expected uint8"):
        run(tmp_path, compiled, stream=stream)


def test_sigterm_saves_stops_and_has_an_exit_code_of_its_own(tmp_path, compiled):
    expected = run(tmp_path / "whole", compiled)
    stream = Stream()
    stream.at[9] = lambda batch: os.kill(os.getpid(), signal.SIGTERM)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match=r"saved after step \d+ \(epoch 2\)") as stopped:
        run(tmp_path / "stopped", compiled, stream=stream)
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    check_resumes_to_the_same_bits(tmp_path / "stopped", compiled, expected)


@pytest.mark.fault(
    "SIGTERM while an epoch is validated",
    "saved without waiting for its end; resumed, the same bits",
)
def test_sigterm_while_an_epoch_is_validated_does_not_wait_for_its_end(tmp_path, compiled):
    """Nor is the row of the epoch lost: the state is saved again with it."""
    expected = run(tmp_path / "whole", compiled)
    batches = validation()

    def interrupted_validation():
        yield batches[0]
        os.kill(os.getpid(), signal.SIGTERM)
        yield batches[1]
        pytest.fail("the rest of the validation was waited for")

    config = CONFIG.replace(run_dir=str(tmp_path / "stopped"))
    program = program_of(config, compiled)
    with pytest.raises(Preempted, match=r"saved after step 6 \(epoch 1\)"):
        loop.fit(
            config.training,
            config.run,
            program,
            tmp_path / "stopped",
            Stream(),
            interrupted_validation(),
        )
    assert not (tmp_path / "stopped" / "metrics.jsonl").exists()
    one_epoch = RESUMED.replace(epochs=1)
    run(tmp_path / "stopped", compiled, one_epoch)
    assert [row["epoch"] for row in rows(tmp_path / "stopped")] == [1]
    read_best(tmp_path / "stopped" / "checkpoints")  # knows of the epoch
    check_resumes_to_the_same_bits(tmp_path / "stopped", compiled, expected)


def test_checkpoints_within_an_epoch_change_nothing_else(tmp_path, compiled):
    expected = run(tmp_path / "whole", compiled)
    often = CONFIG.replace(checkpoint_steps=2)
    stream = Stream()
    stream.at[17] = lambda batch: batch["label"].__setitem__(0, NUM_CLASSES)  # a sudden end
    with pytest.raises(ValueError, match="label 3"):
        run(tmp_path / "often", compiled, often, stream)
    steps = {int(path.name) for path in (tmp_path / "often" / "checkpoints").iterdir()}
    assert {14, 16} < steps
    assert steps - {14, 16} <= {6, 12}  # the best, and what was best before it
    check_resumes_to_the_same_bits(tmp_path / "often", compiled, expected)


@pytest.mark.fault(
    "the newest checkpoint of a run is broken when it is resumed",
    "named; the run went on from the one before, to the same bits",
)
def test_a_run_goes_on_from_the_checkpoint_before_a_broken_one(tmp_path, compiled, capsys):
    expected = run(tmp_path, compiled)
    whole = metrics(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "18" / "state")
    variables = run(tmp_path, compiled, RESUMED)
    assert "The checkpoint of step 18 is broken" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, variables, expected)
    assert metrics(tmp_path) == whole


def test_training_stops_when_nothing_improves(tmp_path, compiled, monkeypatch):
    scores = iter([0.5, 0.6, 0.6, 0.3])
    real = Classification.validate
    monkeypatch.setattr(
        Classification, "validate", lambda *a: changed(real(*a), val_macro_f1=next(scores))
    )
    config = CONFIG.replace(epochs=8, early_stopping=2)
    run(tmp_path, compiled, config)
    assert [row["val_macro_f1"] for row in rows(tmp_path)] == [0.5, 0.6, 0.6, 0.3]


def test_the_seed_fixes_everything(tmp_path, compiled):
    first = run(tmp_path / "a", compiled)
    second = run(tmp_path / "b", {})
    jax.tree.map(np.testing.assert_array_equal, first, second)
    other = run(tmp_path / "c", compiled, CONFIG.replace(seed=1))
    leaves = zip(jax.tree.leaves(first["params"]), jax.tree.leaves(other["params"]), strict=True)
    assert not all(np.array_equal(a, b) for a, b in leaves)


def test_a_batch_that_does_not_fit_the_devices_is_refused():
    with pytest.raises(UserError, match=r"--batch-size 6 .* 4 devices .* multiple of 4"):
        classification.make_classification(CONFIG.replace(batch_size=6), COUNTS)


def test_a_class_without_training_images_is_refused():
    with pytest.raises(UserError, match="Class 2 has 0 training examples"):
        classification.make_classification(CONFIG, [24, 18, 0])
