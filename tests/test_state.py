"""The state between two frames: saved whole, and loaded without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np

from carvid.temporal.state import TemporalState
from tests import HANGS_S
from tests.squares import known_state


def test_a_state_is_saved_whole() -> None:
    for state in (known_state(), TemporalState.initial(3)):
        state = replace(state, smoothed=np.array([0]))
        loaded = TemporalState.from_dict(json.loads(json.dumps(state.to_dict())))
        for name, value in vars(state).items():
            again = getattr(loaded, name)
            np.testing.assert_array_equal(again, value, name)
            assert getattr(again, "dtype", None) == getattr(value, "dtype", None), name


IMPORT_TEMPORAL = """
import importlib, pkgutil, sys
package = importlib.import_module("carvid.temporal")
for found in pkgutil.iter_modules(package.__path__, "carvid.temporal."):
    importlib.import_module(found.name)
print(*sys.modules)
"""
ROOMS = {"base", "car", "config", "temporal", "version"}
"""What `carvid.temporal` may import of carvid; of `car`, what needs no network."""


def test_time_needs_no_network_and_no_video() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_TEMPORAL], capture_output=True, text=True, timeout=HANGS_S,
        check=True,
    )  # fmt: skip
    names = [name.split(".") for name in done.stdout.split()]
    assert ["carvid", "temporal", "lookahead"] in names
    assert {name[0] for name in names}.isdisjoint({"torch", "transformers", "av"})
    assert {name[1] for name in names if name[0] == "carvid" and len(name) > 1} <= ROOMS
