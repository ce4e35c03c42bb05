"""The notebooks run, on a small clip and small weights, and carry no outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trees import unseen_tree

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(
    path: Path,
    clip: Path,
    tmp_path: Path,
    weights: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] and c["execution_count"] is None for c in cells)
    preset = tmp_path / "small.yaml"
    preset.write_text(
        f"weights:\n  generator: {weights['generator']}\n  classifier: {weights['classifier']}\n"
        "crf:\n  iterations: 1\n"
    )
    monkeypatch.chdir(tmp_path)
    data = unseen_tree(tmp_path / "data", {"bear": 2, "cow": 2})
    names: dict[str, object] = {}
    for cell in cells:
        exec(cell["source"], names)
        names |= {"PRESET": str(preset), "CLIP": str(clip), "DATA": str(data)}
    assert (tmp_path / "out" / "run.json").exists()
