"""Every setting of carvid (sections), and how a run comes by them (presets)."""

from carvid.config.expectations import ExpectConfig
from carvid.config.instances import InstancesConfig
from carvid.config.overlay import PALETTES, OverlayConfig
from carvid.config.presets import (
    load_config,
    load_expectations,
    load_over,
    load_run_config,
    preset_names,
    settings_files,
)
from carvid.config.sam2 import Sam2Config
from carvid.config.sections import (
    BACKGROUND_QUERIES,
    KEY_EVERY_S,
    PROMPT_KINDS,
    SCALES,
    TEMPLATE,
    CarConfig,
    ClassifierConfig,
    Config,
    CrfConfig,
    PhrasesConfig,
    PromptsConfig,
    ProposalsConfig,
    SamConfig,
    TemporalConfig,
    WeightsConfig,
)

__all__ = [
    "BACKGROUND_QUERIES",
    "KEY_EVERY_S",
    "PALETTES",
    "PROMPT_KINDS",
    "SCALES",
    "TEMPLATE",
    "CarConfig",
    "ClassifierConfig",
    "Config",
    "CrfConfig",
    "ExpectConfig",
    "InstancesConfig",
    "OverlayConfig",
    "PhrasesConfig",
    "PromptsConfig",
    "ProposalsConfig",
    "Sam2Config",
    "SamConfig",
    "TemporalConfig",
    "WeightsConfig",
    "load_config",
    "load_expectations",
    "load_over",
    "load_run_config",
    "preset_names",
    "settings_files",
]
