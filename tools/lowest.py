#!/usr/bin/env python
"""Run the tests with the lowest versions that pyproject.toml allows.

    tools/lowest.py                                  # install, then the whole suite, as tools/check
    tools/lowest.py tests/test_video.py -k natural   # pytest's own arguments
    tools/lowest.py --place /tmp/lowest --install-only

An environment is made outside of the repository, and brought up to date when it is there. In it
every dependency that carvid runs with, and those of the extras `coco`, `exact` and `ray`, has
exactly the version of its bound `>=`; the tools of the extra `dev` have their pins. Two stay as
they are in .venv: torch, of which tools/environment.sh pins the build for processors (others bring
gigabytes of CUDA), and what these packages themselves ask for, which pip chooses. Needs
`packaging`, which .venv has. Exit status: pytest's.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PLACE = Path(tempfile.gettempdir()) / "carvid-lowest"
EXTRAS = ("coco", "exact", "ray")
"""Extras that the tests use, and whose bounds are tried as well."""
TEST_RUN = ("-m", "pytest", "-n", "3")
"""What tools/check runs."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--place", type=Path, default=PLACE, help="folder of the environment")
    parser.add_argument("--install-only", action="store_true", help="run no tests")
    options, of_pytest = parser.parse_known_args()
    python = options.place / "bin" / "python"
    pins = lowest_versions(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    install(options.place, python, pins)
    print("\n".join(f"lowest: {pin}" for pin in pins), flush=True)
    if options.install_only:
        return 0
    return subprocess.run([python, *TEST_RUN, *of_pytest], cwd=ROOT, check=False).returncode


def lowest_versions(project: dict) -> list[str]:
    """Return `name==bound` of each dependency, torch as pinned, and the development tools' pins."""
    extras = project["project"]["optional-dependencies"]
    bounds = [
        *project["project"]["dependencies"],
        *(line for name in EXTRAS for line in extras[name]),
    ]
    pinned = {"torch": torch_pin()}
    for requirement in here(bounds):
        pinned.setdefault(requirement.name, f"{requirement.name}=={lower_bound(requirement)}")
    for requirement in here(extras["dev"]):
        pinned.setdefault(requirement.name, str(requirement))
    return list(pinned.values())


def here(lines: Iterable[str]) -> list[Requirement]:
    """The requirements that this system and this Python have."""
    requirements = map(Requirement, lines)
    return [each for each in requirements if each.marker is None or each.marker.evaluate()]


def lower_bound(requirement: Requirement) -> str:
    """The version after `>=`; a requirement without one is a mistake in pyproject.toml."""
    bounds = [each.version for each in requirement.specifier if each.operator == ">="]
    if len(bounds) != 1:
        sys.exit(f"'{requirement}' in pyproject.toml has no lower bound; write one with >=")
    return bounds[0]


def torch_pin() -> str:
    """The build of torch that tools/environment.sh installs, such as `torch==2.13.0`."""
    script = (ROOT / "tools" / "environment.sh").read_text(encoding="utf-8")
    pin = re.search(r"torch==[\d.]+", script)
    if pin is None:
        sys.exit("tools/environment.sh pins no torch; write torch==VERSION there")
    return pin[0]


def install(place: Path, python: Path, pins: list[str]) -> None:
    """Make the environment, or bring it up to date; carvid itself is installed from the sources."""
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *pins], check=True)
    subprocess.run([*pip, "--no-deps", "--editable", str(ROOT)], check=True)


if __name__ == "__main__":
    sys.exit(main())
