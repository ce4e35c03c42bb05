"""One run in a folder at a time, on systems that lock folders and on Windows, which locks files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from carvid.base.errors import OutputError
from carvid.run import lock
from carvid.run.layout import check_place
from carvid.run.lock import locked

HOLD = """
import sys
from pathlib import Path
from carvid.run import lock
with lock.{name}(Path({folder!r})) as is_ours:
    print(is_ours, flush=True)
    sys.stdin.read()
"""


class Lock(Protocol):
    def __call__(self, folder: Path) -> AbstractContextManager[bool]: ...


@pytest.fixture(params=["_folder_lock", "_file_lock"])
def hold(request: pytest.FixtureRequest) -> Lock:
    if sys.platform == "win32" and request.param == "_folder_lock":
        pytest.skip("Windows locks no folders")
    chosen: Lock = getattr(lock, request.param)
    return chosen


@contextmanager
def held_by_another(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(name=name, folder=str(folder))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with process:
        assert process.stdout.readline() == "True\n"
        yield process
        process.stdin.close()


def test_a_lock_keeps_others_out_until_it_ends(tmp_path: Path, hold: Lock) -> None:
    with hold(tmp_path) as first, hold(tmp_path) as second:
        assert first and not second
    with hold(tmp_path) as again:
        assert again


def test_a_lock_ends_with_its_process(tmp_path: Path, hold: Lock) -> None:
    with held_by_another(tmp_path, hold.__name__) as other:
        with hold(tmp_path) as is_ours:
            assert not is_ours
        other.kill()
        other.wait()
        with hold(tmp_path) as is_ours:  # at once: neither of them waits
            assert is_ours


def test_an_exception_ends_a_lock(tmp_path: Path, hold: Lock) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    with hold(tmp_path) as is_ours:
        assert is_ours


def test_a_file_that_a_kill_left_looks_like_no_run(tmp_path: Path) -> None:
    with held_by_another(tmp_path, "_file_lock") as other:
        other.kill()
        other.wait()
    assert not check_place(tmp_path)
    with lock._file_lock(tmp_path) as is_ours:
        assert is_ours


def test_a_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with locked(folder):
        assert folder.is_dir()
    assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="makes a link")
def test_another_spelling_is_the_same_folder(tmp_path: Path) -> None:
    folder, link = tmp_path / "out", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    with (
        locked(folder),
        pytest.raises(OutputError, match=r"another run is writing to '.*link'; wait for it"),
        locked(link),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_child_that_ends_does_not_free_it(tmp_path: Path) -> None:
    """A worker that ends must not let others in while its parent is at work."""
    with locked(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(OutputError, match="another run"), locked(tmp_path):
            pass


def test_where_no_locks_are_the_user_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(95, "not supported")

    monkeypatch.setattr(lock, "lock_descriptor", unsupported)
    with locked(tmp_path), locked(tmp_path):
        pass
