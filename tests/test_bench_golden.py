"""carvid's `reference` behaviour against numbers of the released evaluation on image benchmarks."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Finished, in_this_process

TOOLS = Path(__file__).parent.parent / "tools"
Check = Callable[..., Finished]


@pytest.fixture(scope="module")
def check() -> Check:
    """The tool, in this process."""
    sys.path.insert(0, str(TOOLS))
    try:
        names = runpy.run_path(str(TOOLS / "check_bench_golden.py"))
    finally:
        sys.path.remove(str(TOOLS))

    def call(*arguments: object) -> Finished:
        threads = torch.get_num_threads()
        try:
            return in_this_process(lambda: sys.exit(names["main"]()), *arguments)
        finally:
            torch.set_num_threads(threads)

    return call


def test_metrics_of_given_maps(shared: Path, check: Check) -> None:
    path = shared / "golden" / "bench" / "bench_metrics.json"
    result = check(path, "--data", shared / "data" / "bench")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok   bench_metrics ade_150 confusion" in result.stdout
    assert "ok   bench_metrics refer 9" in result.stdout


@pytest.mark.parametrize("wrong", [False, True])
def test_an_image_from_end_to_end(shared: Path, check: Check, tmp_path: Path, wrong: bool) -> None:
    """And a score that is not the file's is found. What a file says of all its images is not that
    of one, so only the image's line is looked at."""
    name = "bench_voc"
    values = json.loads((shared / "golden" / "bench" / f"{name}.json").read_text())
    image = min(values["images"], key=lambda each: each["size"][0] * each["size"][1])
    image["passes"][0]["steps"][0]["scores"][0] += 0.01 * wrong
    (tmp_path / f"{name}.json").write_text(json.dumps({**values, "images": [image]}))
    shutil.copy(shared / "golden" / "bench" / f"{name}.npz", tmp_path)
    result = check(tmp_path / f"{name}.json", "--data", shared / "data" / "bench")
    (line,) = (each for each in result.stdout.splitlines() if f"{name} {image['name']}:" in each)
    found = "OUT  bench_voc {}: scores differ by 1" if wrong else "ok   bench_voc {}: kept equal"
    assert line.startswith(found.format(image["name"])), result.stdout
