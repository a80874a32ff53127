"""An error on the command line gives one clear line and exit code 2."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from data.registry import datasets_of_kind
from lmf_jax.cli import given_flags
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config import Config
from lmf_jax.errors import UserError, run_command
from lmf_jax.losses.registry import registered_losses
from lmf_jax.runs.folder import open_run

TRAIN = str(Path(__file__).parents[2] / "train.py")
DATASET = {
    "name": "digits_lt",
    "fingerprint": "of another split",
    "class_names": ["zero", "one"],
    "class_counts": {"train": [9, 3], "validation": [2, 1], "test": [2, 1]},
}

WRONG = {
    "an unknown loss": ("--loss lmfl", "--loss is lmfl; expected one of ce, wcce,"),
    "an unknown flag": ("--los ce", "Unrecognized options: --los, ce"),
    "a stray word": ("lmf", "Unrecognized options: lmf"),
    "a flag without its value": (
        "--epochs",
        "train.py: --epochs was given no value; expected a whole number.",
    ),
    "a word for a whole number": ("--epochs ten", "--epochs is ten; expected a whole number."),
    "a fraction for a whole number": ("--seed=1.5", "--seed is 1.5; expected a whole number."),
    "a word for nothing": ("--gamma None", "--gamma is None; expected a number."),
    "a word for a number": ("--alpha much", "train.py: --alpha is much; expected a number."),
    "a word that begins as a flag": ("--alpha -x", "--alpha is -x; expected a number."),
    "two sides for three": (
        "--patch-size 8 16 --seed 3",
        "--patch-size is 8 16; expected 3 whole numbers.",
    ),
    "a word for a side": ("--patch-size 8 a 16", "is 8 a 16; expected 3 whole numbers."),
    "a flag of none of its choices": (
        "--split other",
        "train.py: --split is other; expected one of paper, grouped, official.",
    ),
    "a flag with underscores": ("--image_size big", "--image-size is big; expected a whole"),
    "a path that is missing": ("--run-dir --seed 1", "--run-dir was given no value; expected a"),
    "a value for a switch": ("--resume yes", "--resume is yes; expected no value after it"),
    "a value for a switch that has it attached": ("--remat=1", "--remat is 1; expected no value"),
    "a negative alpha": ("--alpha -1", r"--alpha is -1.0; expected a number of at least 0"),
    "a negative gamma": ("--gamma -0.5", "--gamma is -0.5"),
    "a scale of zero": ("--scale 0", "--scale is 0.0; expected a number above 0"),
    "a rate that is no number": ("--learning-rate nan", "--learning-rate is nan"),
    "no epochs": ("--epochs 0", "--epochs is 0; expected a whole number of at least 1"),
    "a negative seed": ("--seed -1", "--seed is -1"),
    "a seed of too many bits": ("--seed 4294967296", "--seed is 4294967296; expected a whole"),
    "an average that never moves": ("--ema-decay 1", "--ema-decay is 1.0"),
    "a start after the end": ("--drw-start 2", "--drw-start is 2.0; expected a number in [0, 1]"),
    "an unknown model": ("--model vgg16", "--model is vgg16; expected one of densenet121, ef"),
    "an unknown optimizer": ("--optimizer rmsprop", "rmsprop"),
    "an unknown dataset": ("--dataset imagenet", "no dataset named 'imagenet'"),
    "images too small": ("--image-size 8", "--image-size is 8; expected at least 32 pixels"),
    "a width too small": ("--image-size 64,8", "--image-size is 64,8; expected at least 32 pixels"),
    "four sides": (
        "--image-size 32,32,32,32",
        "--image-size is 32,32,32,32; expected a whole number, height and width such as 512,384, "
        "or a depth before them.",
    ),
    "quarter turns of a rectangle": (
        "--image-size 64,32 --augment dihedral",
        "--augment dihedral turns images by 90 degrees, and --image-size 64,32 is not a square",
    ),
    "an inverted imbalance": ("--imbalance-ratio 0.5", "--imbalance-ratio is 0.5"),
    "a split that needs groups": ("--split grouped", "grouped"),
    "an option of another loss": (
        "--loss ce --tau 3",
        "--tau has no effect with --loss ce; leave it out, or use --loss logit-adjustment.",
    ),
    "the default of an option of another loss": ("--loss ce --alpha=1", "--alpha has no effect"),
    "a margin that its form lacks": (
        "--loss focal --form paper-v1 --max-margin 1",
        "--max-margin has no effect with --loss focal --form paper-v1; leave it out, or use",
    ),
    "an option of a loss of segmentation": ("--delta 0.5", "--delta has no effect with --loss lmf"),
    "a beta that nothing weighs": (
        "--effective_number_beta 0.9",
        "--effective-number-beta has no effect with --loss lmf; leave it out, or use --loss "
        "class-balanced or ldam-drw.",
    ),
    "a momentum that adam lacks": (
        "--momentum 0.5",
        "--momentum has no effect with --optimizer adamw; leave it out, or use --optimizer sgd.",
    ),
    "windows of images": ("--overlap 0.5", "--overlap has no effect on the images of digits_lt"),
    "patches of images": (
        "--task segmentation --foreground-share 0.5",
        "--foreground-share has no effect on the images of digits_masks; leave it out, or use "
        "--dataset brats20, kits19 or volumes:DIR.",
    ),
    "a size of volumes": (
        "--task segmentation --dataset kits19 --image-size 64",
        "--image-size has no effect on the volumes of kits19; leave it out, or give --patch-size.",
    ),
    "a way to resize volumes": (
        "--task segmentation --dataset kits19 --resize pad",
        "--resize has no effect on the volumes of kits19; leave it out, or use a dataset of",
    ),
    "an unknown way to resize": ("--resize fit", "is fit; expected one of stretch, pad, crop."),
    "channels of volumes": (
        "--task segmentation --dataset kits19 --channels 1",
        "--channels has no effect on the volumes of kits19; leave it out, or use a dataset of",
    ),
    "channels that are not read": ("--channels 4", "is 4; expected 3 (RGB) or 1 (gray), which"),
    "a normalization of volumes": (
        "--task segmentation --dataset brats20 --normalization unit",
        "--normalization has no effect on the volumes of brats20",
    ),
    "a tail of masks": (
        "--task segmentation --imbalance-ratio 5",
        "--imbalance-ratio has no effect with --dataset digits_masks; leave it out, or use",
    ),
    "a head without its scale": ("--head cosine --loss ce", "--head cosine does not go with"),
    "two ways of mixing": ("--mixup 1 --cutmix 1", "--mixup and --cutmix were both given"),
    "micro-batches that do not divide": ("--accumulate 3", "--accumulate 3 does not divide"),
    "a batch that does not spread": ("--batch-size 30", "--batch-size 30 cannot be divided over 4"),
    "a batch of one": ("--batch-size 1", "batch norm needs two"),
    "micro-batches of one": ("--accumulate 32", "batch norm needs two"),
    "a run in a bucket": ("--run-dir gs://bucket/run", "--run-dir is gs://bucket/run; expected a"),
    "data in a bucket": ("--data-dir gs://bucket", "--data-dir is gs://bucket; expected a folder"),
    "one fold of none": ("--fold 2", "give their number with --folds"),
    "a fold on its own": ("--folds 3 --fold 2", "--fold 2 needs --run-dir"),
    "a fold too many": ("--folds 3 --fold 4 --run-dir x", "expected a number from 1 to 3"),
    "folds of an official split": ("--folds 3 --split official", "choose grouped or paper"),
    "folds of several processes": ("--folds 3 --distributed auto", "they share the folds"),
    "a process on its own": ("--num-processes 2", "give --distributed auto"),
    "a process too many": (
        "--distributed auto --num-processes 2 --process-id 2",
        "--process-id is 2 and --num-processes 2",
    ),
    "others who cannot be met": ("--distributed auto", "cannot connect to the others"),
    "a dataset not prepared": ("--dataset ham10000", "python -m data prepare ham10000 --raw-dir"),
    "a data folder that is a file": ("--data-dir {file}", "{file}"),
    "a run folder that exists": ("--run-dir {taken}", "The run folder {taken} exists"),
    "a run folder inside a file": ("--run-dir {file}/run", "{file}/run cannot be made"),
    "a resume of nothing named": ("--resume", "--resume needs --run-dir"),
    "a resume of nothing there": ("--resume --run-dir {none}", "There is no run in {none}"),
    "a resume with another model": (
        "--resume --run-dir {taken} --model densenet121",
        "model resnet50 (now densenet121)",
    ),
    "a resume of other data": (
        "--resume --run-dir {taken}",
        "the images, labels or split of the dataset",
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Paths that the wrong command lines name."""
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("not a folder")
    places = {name: str(folder / name) for name in ("file", "taken", "none", "data")}
    config = Config.of(run_dir=places["taken"], data_dir=places["data"])
    open_run(config.resolve({"image_size": 32}), DATASET)
    return places


def type_in(line, places, monkeypatch):
    """Run ``python train.py`` with these words in this process; return its exit code."""
    words = line.format(**places).split()
    if "--data-dir" not in words:
        words += ["--data-dir", places["data"]]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(TRAIN, run_name="__main__")
    return stop.value.code


@pytest.mark.parametrize(("line", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_command_line_gets_one_clear_line(
    line, message, places, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    assert type_in(line, places, monkeypatch) == 2
    printed = capsys.readouterr().err.strip()
    assert printed.startswith("train.py: ")
    assert message.format(**places) in printed
    assert "\n" not in printed
    assert not list(tmp_path.iterdir()), "a wrong command line leaves nothing behind"


def test_help_names_every_loss_with_its_source(places, monkeypatch, capsys):
    text = help_of("--help-all", places, monkeypatch, capsys)
    text = " ".join(text.replace("│", " ").split())
    for spec in registered_losses():
        task = " (--task segmentation)" if spec.task == "segmentation" else ""
        assert f"{spec.name}: {spec.summary} ({spec.paper}){task}." in text


def flags_in(text):
    return set(re.findall(r"^\W (--[a-z][a-z0-9-]+)", text, flags=re.MULTILINE))


def help_of(line, places, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert type_in(line, places, monkeypatch) == 0
    return capsys.readouterr().out


def test_the_whole_help_has_every_flag_with_a_text(places, monkeypatch, capsys):
    text = help_of("--help-all", places, monkeypatch, capsys)
    flags = {f"--{name.replace('_', '-')}" for name in Config.setting_fields()}
    assert flags_in(text) == flags
    assert "(default: None)" not in text and "default: []" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_short_help_has_the_flags_that_apply(places, monkeypatch, capsys):
    short = flags_in(help_of("--help", places, monkeypatch, capsys))
    assert 20 <= len(short) <= 35
    assert {"--dataset", "--loss", "--alpha", "--epochs", "--mixup", "--run-dir"} <= short
    assert not short & {"--tau", "--patch-size", "--momentum", "--process-id"}
    focal = flags_in(help_of("--loss logit-adjustment --help", places, monkeypatch, capsys))
    assert "--tau" in focal and "--alpha" not in focal
    masks = flags_in(help_of("--task segmentation --help", places, monkeypatch, capsys))
    assert "--patch-size" in masks and not masks & {"--mixup", "--pretrained"}


@pytest.mark.parametrize(
    ("line", "defaults"),
    [
        ("--help", {"--dataset": "digits_lt", "--epochs": "30", "--model": "resnet50"}),
        ("--task segmentation --help", {"--dataset": "digits_masks", "--batch-size": "16"}),
        ("--dataset ham10000 --help", {"--epochs": "100", "--image-size": "224"}),
    ],
)
def test_the_help_shows_the_defaults_that_hold(line, defaults, places, monkeypatch, capsys):
    text = " ".join(help_of(line, places, monkeypatch, capsys).replace("│", " ").split())
    for flag, default in defaults.items():
        entry = re.search(rf" {flag} .*?\(default: (.*?)\)", text)
        assert entry[1] == default


def test_a_flag_of_an_earlier_version_stays_accepted():
    assert parse_config(["--normalisation", "unit"]).model.normalization == "unit"
    assert parse_config(["--normalisation=unit"]).model.normalization == "unit"


def test_what_is_given_wins_over_the_dataset_and_the_dataset_over_the_paper():
    config = parse_config(["--learning-rate", "0.5"])
    config = config.resolve({"learning_rate": 0.1, "image_size": 32})
    assert (config.training.learning_rate, config.data.image_size, config.training.epochs) == (
        0.5,
        32,
        100,
    )


def test_the_folder_of_own_images_is_found_again_from_anywhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = parse_config(["--dataset", "folder:my images/"])
    assert config.data.dataset == f"folder:{tmp_path}/my images"
    assert parse_config(["--dataset", "ham10000"]).data.dataset == "ham10000"


def test_a_resumed_run_takes_its_settings_from_the_run():
    saved = Config.of(alpha=2.0, epochs=7, image_size=32)
    config = parse_config(["--resume", "--run-dir", "x", "--beta", "0.5"], defaults=saved)
    assert (config.loss.alpha, config.loss.beta, config.training.epochs, config.run.resume) == (
        2.0,
        0.5,
        7,
        True,
    )


def test_an_option_of_another_loss_that_a_saved_run_holds_is_no_word_given():
    saved = Config.of(loss="ce", tau=3.0, momentum=0.5)
    config = parse_config(["--resume", "--run-dir", "x"], defaults=saved)
    assert (config.loss.loss, config.loss.tau) == ("ce", 3.0)
    with pytest.raises(UserError, match="--tau has no effect with --loss ce"):
        parse_config(["--resume", "--run-dir", "x", "--tau", "3"], defaults=saved)


def test_a_flag_of_a_resumed_run_is_checked_beside_the_settings_of_the_run():
    words = ["--resume", "--run-dir", "x", "--tau", "2"]
    assert parse_config(words).loss.tau == 2.0  # before the run's settings are read
    saved = Config.of(loss="logit-adjustment", tau=2.0)
    assert parse_config(words, defaults=saved).loss.loss == "logit-adjustment"


@pytest.mark.parametrize(
    "line",
    [
        "--sampling effective-number --effective-number-beta 0.9",
        "--loss logit-adjustment --tau 2 --cache none --no-resume",
        "--optimizer sgd --momentum 0.5",
        "--dataset digits_lt --imbalance-ratio 5",
        "--task segmentation --dataset kits19 --overlap 0.25 --foreground-share 0.5",
        "--task segmentation --loss lmf --alpha 2",
        "--loss ce --form paper",
    ],
)
def test_flags_that_have_an_effect_are_taken(line):
    parse_config(line.split())


@pytest.mark.parametrize("dataset", [*datasets_of_kind("volumes"), "volumes:/some/where"])
def test_flags_of_volumes_are_taken_for_every_registered_dataset_of_volumes(dataset):
    parse_config(["--task", "segmentation", "--dataset", dataset, "--overlap", "0.25"])
    with pytest.raises(UserError, match=f"--cache has no effect on the volumes of {dataset}"):
        parse_config(["--task", "segmentation", "--dataset", dataset, "--cache", "none"])


def test_settings_are_checked_wherever_they_come_from():
    with pytest.raises(UserError, match="--alpha is -1"):
        Config.of(alpha=-1.0)


MODELS = (
    "one of densenet121, efficientnet_v2_s, resnet18_3d, resnet50, resnet50_keras, resnet50_v1, "
    "tf_efficientnetv2_s, unet or nothing."
)
WRONG_TYPES = [
    ("alpha", "1", "a number."),
    ("alpha", True, "a number."),
    ("epochs", 1.5, "a whole number or nothing."),
    ("pretrained", 1, "a text or nothing."),
    ("resume", "yes", "true or false."),
    ("split", "other", "one of paper, grouped, official or nothing."),
    ("model", ["resnet50"], MODELS),
    ("image-size", "64", "a whole number or 2 whole numbers or 3 whole numbers or nothing."),
    ("image-size", (64,), "a whole number or 2 whole numbers or 3 whole numbers or nothing."),
    ("image-size", (64, 32.0), "a whole number or 2 whole numbers or 3 whole numbers or nothing."),
    (
        "image-size",
        ("64", "64"),
        "a whole number or 2 whole numbers or 3 whole numbers or nothing.",
    ),
]


def test_settings_of_a_file_are_of_the_type_of_their_flag():
    # In a process of its own: here every annotation is checked, and for people none is.
    code = """
from lmf_jax.config import Config
from lmf_jax.errors import UserError
for name, value, expected in %r:
    try:
        Config.of(**{name.replace("-", "_"): value})
    except UserError as error:
        assert str(error).startswith(f"--{name} is "), error
        assert str(error).endswith(f"; expected {expected}"), error
    else:
        raise AssertionError(name)
"""
    command = [sys.executable, "-c", code % WRONG_TYPES]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_is_one_line_wherever_it_comes(capsys):
    def command():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_command("train.py", command)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "train.py: Stopped; what was saved is kept.\n"


def test_a_run_folder_may_lie_in_the_home_folder():
    assert parse_config(["--run-dir", "~/run"]).run.run_dir == str(Path.home() / "run")


def test_a_name_that_config_json_cannot_hold_is_refused():
    with pytest.raises(UserError, match=r"--run-dir is runs/caf\\udce9; expected a name in UTF-8"):
        Config.of(run_dir="runs/caf\udce9")


def test_a_default_of_a_dataset_that_is_not_a_setting_is_named():
    with pytest.raises(UserError, match="default for epoch, which is not a setting"):
        Config().resolve({"epoch": 3})


def test_an_option_that_no_loss_reads_stops_no_run(monkeypatch):
    monkeypatch.setattr(given_flags, "losses_with", lambda option, form: ())
    assert parse_config(["--epochs", "2"]).training.epochs == 2
