#!/usr/bin/env python
"""Spoil carvid in one place at a time, and see that a test breaks.

    tools/mutants.py
    tools/mutants.py --workers 4 --only flow-reversed cuts-not-noticed
    tools/mutants.py --list

No file is changed. In a process of its own, a mutant takes the place of one function wherever
carvid's modules hold it, and one test is run. Every such test is first run as carvid is, and must
pass. A mutant is caught if it was called and the test then fails by an assertion, on a result; any
other exception does not count. Exit status 1 if a mutant is not caught. It forks: Linux and macOS.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from mutations import MUTANTS, Mutant, install, modules

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 300.0
QUIETLY = ("-p", "no:cacheprovider", "-p", "no:xdist",
           "-W", "ignore::pytest.PytestAssertRewriteWarning")  # fmt: skip
"""Plugins of pytest that are imported before it starts keep their own assertions."""


@dataclass
class Outcome:
    """What became of one test."""

    passed: bool = False
    by_assertion: bool = False
    """It failed in the test itself, by an assertion."""
    calls: int = 0
    """How often the mutant was called."""
    message: str = "no such test"
    """Last line of what failed."""
    output: str = field(default="", repr=False)
    seconds: float = 0.0


class Watch:
    """A pytest plugin that takes note of how the one test ends."""

    def __init__(self) -> None:
        self.outcome = Outcome()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo
        if error is not None:
            of_test = report.when == "call"
            asserted = error.errisinstance((AssertionError, pytest.fail.Exception))
            message = f"{error.typename}: {error.value}".splitlines()[0]
            self.outcome = Outcome(False, of_test and asserted, message=message)
        elif report.when == "call":
            self.outcome = Outcome(True, message="")
        return report


def run_test(test: str, mutant: Mutant | None) -> Outcome:
    """Run one test in this process, which is of no use afterwards."""
    began, watch, text = time.monotonic(), Watch(), StringIO()
    calls = install(mutant) if mutant is not None else [0]
    with redirect_stdout(text), redirect_stderr(text):
        pytest.main([*QUIETLY, "--rootdir", str(ROOT), test], plugins=[watch])
    outcome = watch.outcome
    outcome.calls, outcome.output = calls[0], text.getvalue()
    outcome.seconds = time.monotonic() - began
    return outcome


Task = tuple[str, Mutant | None]


def run_all(tasks: Iterable[Task], workers: int) -> Iterator[tuple[Task, Outcome]]:
    """Run each test in a process forked from this one, so many at a time; as they finish."""
    context, waiting = get_context("fork"), list(tasks)[::-1]
    running: dict[connection.Connection, tuple[Task, BaseProcess, float]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            task = waiting.pop()
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_send, args=(theirs, task))
            process.start()
            theirs.close()
            running[ours] = (task, process, time.monotonic() + TIMEOUT_S)
        ready = connection.wait(list(running), timeout=1.0)
        late = [each for each, (_, _, until) in running.items() if time.monotonic() > until]
        for each in [*ready, *(one for one in late if one not in ready)]:
            assert isinstance(each, connection.Connection)
            task, process, _ = running.pop(each)
            yield task, _received(each, process)


def _send(pipe: connection.Connection, task: Task) -> None:
    pipe.send(run_test(*task))
    pipe.close()
    os._exit(0)  # no thread that the test has left is waited for


def _received(pipe: connection.Connection, process: BaseProcess) -> Outcome:
    try:
        outcome = pipe.recv() if pipe.poll() else Outcome(message=f"not done in {TIMEOUT_S:.0f} s")
    except EOFError:
        outcome = Outcome(message="the process died")
    process.kill()
    process.join()
    return outcome


def verdict(outcome: Outcome) -> str:
    """Say what a mutant's test shows: `caught`, or why not."""
    if not outcome.calls:
        return "never called"
    if outcome.passed:
        return "SURVIVES"
    return "caught" if outcome.by_assertion else "no assertion"


def load_everything() -> None:
    """Import, once, what tests import: forked processes have it already."""
    os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive a fork
    import hypothesis
    import scipy.optimize
    import transformers

    from carvid.clip import backbone, weights

    assert hypothesis and scipy.optimize and transformers and backbone and weights
    modules()  # of carvid, all of them


def check(mutants: Sequence[Mutant], workers: int, *, verbose: bool) -> int:
    """Run the tests as they are, then with the mutants; return how many are not caught."""
    load_everything()
    tests = list(dict.fromkeys(mutant.test for mutant in mutants))
    broken = set()
    for (test, _), outcome in run_all([(test, None) for test in tests], workers):
        if not outcome.passed:
            broken.add(test)
            print(f"fails without a mutant: {test}: {outcome.message}", flush=True)
            print(outcome.output if verbose else "", end="")
    missed = sum(mutant.test in broken for mutant in mutants)
    width = max(len(mutant.name) for mutant in mutants)
    tasks = [(mutant.test, mutant) for mutant in mutants if mutant.test not in broken]
    for (test, mutant), outcome in run_all(tasks, workers):
        assert mutant is not None
        said = verdict(outcome)
        missed += said != "caught"
        print(
            f"{said:<12}  {mutant.name:<{width}}  {outcome.seconds:5.1f} s  {outcome.calls:>5} "
            f"calls  {test.removeprefix('tests/')}: {outcome.message[:90]}",
            flush=True,
        )
        print(outcome.output if verbose and said != "caught" else "", end="")
    print(f"{len(mutants) - missed} of {len(mutants)} mutants are caught")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [mutant.name for mutant in MUTANTS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these alone")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--verbose", action="store_true", help="pytest's output, if not caught")
    options = parser.parse_args()
    mutants = [each for each in MUTANTS if options.only is None or each.name in options.only]
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.what} ({mutant.target}; {mutant.test})")
        return 0
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    return int(check(mutants, options.workers, verbose=options.verbose) > 0)


if __name__ == "__main__":
    sys.exit(main())
