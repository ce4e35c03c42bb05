"""What a network remembered, in a file beside the progress of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from carvid.base.errors import OutputError
from carvid.run.memory_files import MemoryFiles
from carvid.temporal.followed import Followed
from carvid.temporal.state import TemporalState

MEMORY = {
    "index": np.array(3), "0/cond_frame_outputs/2/object_pointer": np.arange(6, dtype=np.float32),
    "0/non_cond_frame_outputs/3/maskmem_features": np.arange(8, dtype=np.uint16).reshape(2, 4),
}  # fmt: skip


def state(memory: object = MEMORY) -> TemporalState:
    followed = Followed(np.array([0]), np.array([0.5]), 1, memory)  # type: ignore[arg-type]
    return replace(TemporalState.initial(1), followed=followed)


def test_a_memory_comes_back_with_its_bits(tmp_path: Path) -> None:
    files = MemoryFiles(tmp_path)
    plain, name = files.write(state(), 4)
    assert plain.followed is not None and plain.followed.memory is None
    loaded = files.read(TemporalState.from_dict(plain.to_dict()), name).followed
    assert loaded is not None and loaded.memory is not None
    assert loaded.told.tolist() == [0.5] and set(loaded.memory) == set(MEMORY)
    for key, value in MEMORY.items():
        assert loaded.memory[key].dtype == value.dtype
        np.testing.assert_array_equal(loaded.memory[key], value)


def test_older_files_go_when_the_newer_one_is_named(tmp_path: Path) -> None:
    files = MemoryFiles(tmp_path)
    names = [files.write(state(), done)[1] for done in (4, 8)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(map(str, names))
    files.keep(names[1])
    assert [path.name for path in tmp_path.iterdir()] == [names[1]]
    files.keep(None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("without", [TemporalState.initial(1), state(None)])
def test_no_memory_is_no_file(tmp_path: Path, without: TemporalState) -> None:
    assert MemoryFiles(tmp_path).write(without, 4) == (without, None)
    assert MemoryFiles(tmp_path).read(without, None) is without and not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "objects", "empty", "elsewhere"])
def test_a_damaged_one_is_told(tmp_path: Path, damage: str) -> None:
    files = MemoryFiles(tmp_path)
    plain, name = files.write(state(), 4)
    assert name is not None
    path = tmp_path / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif damage == "objects":
        np.savez(path, index=np.array([None]))  # type: ignore[arg-type]
    elif damage == "elsewhere":
        name = f"../{tmp_path.name}/{name}"
    else:
        path.write_bytes(b"memory" if damage == "text" else b"")
    with pytest.raises(ValueError, match=r"."):
        files.read(plain, name)


def test_a_kind_that_no_network_remembers_is_refused(tmp_path: Path) -> None:
    files = MemoryFiles(tmp_path)
    plain, name = files.write(state({"a": np.array(["text"])}), 4)
    with pytest.raises(ValueError, match="'a' is of <U4"):
        files.read(plain, name)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        MemoryFiles(tmp_path / "missing").write(state(), 4)
