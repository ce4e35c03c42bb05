"""tools/mutants.py: its mutants fit the code, and it tells what is caught from what is not."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
RUN_TWO = """
import sys
from dataclasses import replace
import mutants
named = {each.name: each for each in mutants.MUTANTS}
caught = named["j-and-f-swapped"]
survivor = replace(caught, name="survivor", change=lambda original: original)
sys.exit(mutants.check([caught, survivor], 2, verbose=False))
"""


@pytest.fixture(autouse=True)
def tools_are_importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(TOOLS)
    yield


def test_every_mutant_fits_the_code() -> None:
    from mutations import MUTANTS, TARGETS, find

    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS}) >= 15
    assert {mutant.target for mutant in MUTANTS} == set(TARGETS)
    for mutant in MUTANTS:
        _, _, original = find(mutant.target)
        function = original.fget if isinstance(original, property) else original
        assert callable(mutant.change(function)), mutant.name
        assert mutant.what.endswith(".") and "\n" not in mutant.what, mutant.name


def test_every_mutant_names_a_test(request: pytest.FixtureRequest) -> None:
    from mutations import MUTANTS

    collected = {item.nodeid for item in request.session.items}
    files = {nodeid.partition("::")[0] for nodeid in collected}
    for test in {mutant.test for mutant in MUTANTS}:
        file, _, name = test.partition("::")
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        assert callable(getattr(module, name.partition("[")[0])), test
        whole = file in files and len(files) > 1  # not some tests of one file, chosen by hand
        assert not whole or test in collected, test


def test_what_counts_as_caught() -> None:
    from mutants import Outcome, verdict

    assert verdict(Outcome(passed=False, by_assertion=True, calls=3)) == "caught"
    assert verdict(Outcome(passed=True, calls=3)) == "SURVIVES"
    assert verdict(Outcome(passed=False, by_assertion=False, calls=3)) == "no assertion"
    assert verdict(Outcome(passed=False, by_assertion=True, calls=0)) == "never called"


def test_a_mutant_is_caught_and_a_survivor_is_told() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_TWO], cwd=TOOLS.parent, capture_output=True, text=True,
        timeout=600, env={**os.environ, "PYTHONPATH": f"{TOOLS}{os.pathsep}{TOOLS.parent}"},
    )  # fmt: skip
    *lines, last = done.stdout.splitlines()
    said = {line[14:].split()[0]: line[:12].strip() for line in lines}
    assert said == {"j-and-f-swapped": "caught", "survivor": "SURVIVES"}, done.stdout + done.stderr
    assert last == "1 of 2 mutants are caught" and done.returncode == 1
