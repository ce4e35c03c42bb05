"""The networks of a server: loaded once, when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carvid.car.competing import with_settings
from carvid.config import Config, load_config
from carvid.pipeline import Carvid, load

EXAMPLE_PRESET = "tiny"
"""Of the example, which is drawn: the model that comes with carvid knows it, and nothing has to be
downloaded."""


@dataclass
class Models:
    """What loads the model of a preset, and the embedded one for the example.

    Used in one thread, that of the worker.
    """

    preset: str = "default"
    """A preset's name, or a YAML file."""
    overrides: Sequence[str] = ()
    """`section.key=value`, in order."""
    weights: dict[str, str | None] = field(default_factory=dict)
    """`generator` and `classifier` of `carvid.load`, where others than the preset's are wanted."""
    device: str | None = None
    """Of `carvid.load`."""
    _loaded: dict[str, Carvid] = field(default_factory=dict)

    @property
    def config(self) -> Config:
        """The settings, without weights.

        Raises:
            ConfigError: an unknown preset or setting.
        """
        return load_config(self.preset, self.overrides)

    def theta_for(self, *, example: bool) -> float:
        """Return θ of a clip's model, if nobody chooses another.

        Raises:
            ConfigError: as `config`.
        """
        name = self.name_for(example=example)
        return (self.config if name == self.preset else load_config(name)).car.theta

    def name_for(self, *, example: bool) -> str:
        """Return which preset a clip is segmented with."""
        return EXAMPLE_PRESET if example else self.preset

    def get(self, *, example: bool = False, theta: float | None = None) -> Carvid:
        """Return the model, perhaps with another θ; its networks are loaded the first time.

        Raises:
            CarvidError: as `carvid.load`.
        """
        name = self.name_for(example=example)
        if name not in self._loaded:
            own: dict[str, Any] = {} if name != self.preset else self.weights
            settings = self.overrides if name == self.preset else ()
            self._loaded[name] = load(name, settings, device=self.device, **own)
        model = self._loaded[name]
        if theta is None or theta == model.config.car.theta:
            return model
        config = model.config
        other: Carvid = with_settings(model, replace(config, car=replace(config.car, theta=theta)))
        return other
