"""The notebooks run as they are, in order, anywhere, without network; they carry no outputs."""

from __future__ import annotations

import ast
import json
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from carvid.demo import benchmark_trees, example
from carvid.media.encode import VideoWriter
from carvid.media.open import Selection, open_video

draw = benchmark_trees.write_benchmark
NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def run_cell(source: str, names: dict[str, object]) -> object:
    """Run a cell, and return what its last line shows."""
    *lines, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(compile(source, "cell", "exec"), names)
        return None
    exec(compile(ast.Module(lines, []), "cell", "exec"), names)
    shown: object = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    return shown


def write_short_example(folder: Path) -> None:
    """The example clip's first frames; all of it takes a slow machine a minute."""
    whole = example.example_folder()
    shutil.copytree(whole / example.NAME, folder / example.NAME)
    with (
        open_video(whole / f"{example.NAME}.mp4", selection=Selection(end_s=0.2)) as reader,
        VideoWriter(folder / f"{example.NAME}.mp4", reader.info.size_hw, Fraction(24)) as writer,
    ):
        for frame in reader:
            writer.write(frame.image)


def write_small_benchmark(name: str, root: Path, **more: object) -> None:
    """Two small images of a drawn benchmark."""
    draw(name, root, images=2, side=128)


def test_notebooks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other in one folder."""
    write_short_example(tmp_path / "short")
    monkeypatch.setattr(example, "example_folder", lambda: tmp_path / "short")
    monkeypatch.setattr(benchmark_trees, "write_benchmark", write_small_benchmark)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert cells[0]["cell_type"] == "markdown" and "Needs " in cells[0]["source"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
        names: dict[str, object] = {}
        shown = [run_cell(cell["source"], names) for cell in code]
        pictures = [each for each in shown if isinstance(each, Image.Image)]
        assert pictures and all(len(picture.getcolors(1 << 20) or []) > 9 for picture in pictures)
    assert (tmp_path / "out" / "quickstart" / "run.json").exists()
    assert (tmp_path / "out" / "ref-davis" / "predictions" / "run.json").exists()
    assert (tmp_path / "out" / "benchmarks" / "voc21" / "results.json").exists()
    assert (tmp_path / "out" / "yolo" / "dataset" / "yolo" / "data.yaml").exists()
    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert folders == ["benchmarks", "quickstart", "ref-davis", "yolo"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_pages_name_the_notebooks(path: Path) -> None:
    root = path.parent.parent
    for page in ("README.md", "docs/python.md"):
        assert f"notebooks/{path.name}" in (root / page).read_text(encoding="utf-8")
