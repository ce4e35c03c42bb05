"""Classes in the place of texts, for the methods of a model: they compete, whatever its mode."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from carvid.car.classes import config_for
from carvid.car.segmenter import RecurrentSegmenter
from carvid.config import Config

Method = TypeVar("Method", bound=Callable[..., Any])


def takes_classes(method: Method) -> Method:
    """Let a method of `carvid.Carvid` take `Classes` as its `texts`.

    A model in another mode than `semantic` is asked with the settings of `config_for` then.
    """
    signature = inspect.signature(method)

    @wraps(method)
    def asked(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options)
        model = given.arguments["self"]
        config = config_for(given.arguments["texts"], model.config)
        if config is not model.config:
            given.arguments["self"] = with_settings(model, config)
        return method(*given.args, **given.kwargs)

    return cast("Method", asked)


def with_settings(model: Any, config: Config) -> Any:
    """Return a model that shares another one's networks."""
    other = copy.copy(model)
    (generator, classifier), sam = model.backbones, model.segmenter.sharpen.sam
    other.config = config
    other.segmenter = RecurrentSegmenter(generator, classifier, config, sam)
    return other
