"""All settings of a run, before and after their defaults are resolved."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lmf_jax.config.checks import check_combinations, check_values
from lmf_jax.config.recipes import PAPER_DEFAULTS
from lmf_jax.config.resolved import ResolvedData, ResolvedModel, ResolvedTraining
from lmf_jax.config.sections import DataConfig, ModelConfig, RunConfig, TrainingConfig
from lmf_jax.config.task_settings import TASK_SETTINGS
from lmf_jax.errors import UserError
from lmf_jax.losses.loss_config import LossConfig

AnyConfig = TypeVar("AnyConfig", bound="Config")

DEFAULTS: dict[str, Any] = {
    **PAPER_DEFAULTS,
    "split": "paper",
    "pretrained": "none",
    "optimizer": "adamw",
}
"""Settings of datasets without defaults."""

RECORDED_AS = {"normalization": "normalisation"}
"""Settings with another name in ``config.json``, whose keys must not change."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of the user; None stands for a default, see :meth:`resolve`.

    Raises:
        UserError: If a value is invalid, or two settings exclude each other.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        check_values(self.settings(), self.section_types())
        model = dataclasses.replace(self.model, model=self.model_name)
        check_combinations(self.data, model, self.loss, self.training, self.run)

    @classmethod
    def of(cls: type[AnyConfig], **settings: Any) -> AnyConfig:
        """Return a configuration by the names of the flags, such as ``Config.of(epochs=2)``.

        Raises:
            TypeError: If there is no such setting, or a required one is missing.
        """
        sections = {}
        for name, section in cls.section_types().items():
            names = [setting.name for setting in dataclasses.fields(section)]
            own = {key: settings.pop(key) for key in names if key in settings}
            sections[name] = section(**own)
        if settings:
            raise TypeError(f"There is no setting named {', '.join(settings)}.")
        return cls(**sections)

    @classmethod
    def section_types(cls) -> dict[str, Any]:
        """Return the dataclass of each section, by the section's name."""
        return {section.name: section.type for section in dataclasses.fields(cls)}

    @classmethod
    def setting_fields(cls) -> dict[str, "dataclasses.Field[Any]"]:
        """Return the field of every setting, by the setting's name."""
        sections = cls.section_types().values()
        return {setting.name: setting for s in sections for setting in dataclasses.fields(s)}

    def settings(self) -> dict[str, Any]:
        """Return all settings by name."""
        return {name: v for s in vars(self).values() for name, v in vars(s).items()}

    def record(self) -> dict[str, Any]:
        """Return all settings by their keys in ``config.json``."""
        return {RECORDED_AS.get(name, name): value for name, value in self.settings().items()}

    def replace(self: AnyConfig, **settings: Any) -> AnyConfig:
        """Return a copy with other values of the settings given by name."""
        return type(self).of(**self.settings() | settings)

    @property
    def dataset_name(self) -> str:
        """The dataset, or the default of the task."""
        return self.data.dataset or TASK_SETTINGS[self.data.task].dataset

    @property
    def model_name(self) -> str:
        """The architecture, or the default of the task."""
        return self.model.model or TASK_SETTINGS[self.data.task].model

    def resolve(
        self, dataset_defaults: Mapping[str, Any], recipe: Mapping[str, Any] | None = None
    ) -> "ResolvedConfig":
        """Replace None by the default of the recipe, the dataset, the task, the model or the paper.

        Args:
            dataset_defaults: The defaults of the dataset, by setting.
            recipe: The settings of the recipe, which replace those of the dataset (default: none).

        Raises:
            UserError: If a default is not of a setting, or is not a value that the setting takes.
        """
        from lmf_jax.models.registry import get_model  # loads Flax

        values = {
            **DEFAULTS,
            "dataset": self.dataset_name,
            "model": self.model_name,
            **dataset_defaults,
            **(recipe or {}),
        }
        model = get_model(self.model.model or values["model"])
        values = {"normalization": model.normalization, **values}
        settings = self.settings()
        unknown = sorted(set(values) - set(settings))
        if unknown:
            raise UserError(
                f"The dataset {self.dataset_name} has a default for {', '.join(unknown)}, which is "
                "not a setting; use the names of the flags of train.py, with underscores."
            )
        missing = {name: value for name, value in values.items() if settings[name] is None}
        return ResolvedConfig.of(**settings | missing)


def with_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings, with the defaults of those that an earlier version did not have.

    Args:
        record: Settings by their keys in ``config.json``.
    """
    fields = Config.setting_fields().items()
    return {**{RECORDED_AS.get(name, name): f.default for name, f in fields}, **record}


def run_only_keys() -> set[str]:
    """Return the keys of ``config.json`` that do not affect the results of a run."""
    fields = Config.setting_fields().items()
    return {RECORDED_AS.get(name, name) for name, f in fields if f.metadata.get("run_only")}


@dataclass(frozen=True, kw_only=True)
class ResolvedConfig(Config):
    """The settings of a run with all defaults resolved."""

    data: ResolvedData = field()
    model: ResolvedModel = field()
    training: ResolvedTraining = field()

    @property
    def logit_scale(self) -> float:
        """The factor of the logits in the softmax of the loss."""
        logit_scale = TASK_SETTINGS[self.data.task].get_loss(self.loss.loss).logit_scale
        return 1.0 if logit_scale is None else logit_scale(self.loss, self.model.head)

    @classmethod
    def resolved_names(cls) -> list[str]:
        """Return the names of the settings that are never None once they are resolved."""
        fields = cls.setting_fields().values()
        return [f.name for f in fields if f.default is dataclasses.MISSING]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ResolvedConfig":
        """Return the settings recorded in ``config.json``.

        Raises:
            TypeError: If a setting is unknown, as in a run of another version.
            UserError: If a value is missing or invalid.
        """
        names = {key: name for name, key in RECORDED_AS.items()}
        settings = {
            names.get(key, key): tuple(value) if isinstance(value, list) else value  # no JSON tuple
            for key, value in record.items()
        }
        missing = [name for name in cls.resolved_names() if settings.get(name) is None]
        if missing:
            raise UserError(f"The settings of the run lack {', '.join(missing)}.")
        return cls.of(**settings)
