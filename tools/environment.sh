# Sourced by tools/demo and tools/test, from the repository's root: makes .venv, or brings it up to
# date when pyproject.toml has changed. torch comes first and pinned: left to itself, pip would
# take a build with gigabytes of CUDA libraries.
if ! cmp -s pyproject.toml .venv/carvid-pyproject.toml; then
    echo "making the environment in .venv (a few minutes the first time)" >&2
    python=$(command -v python3.11 || command -v python3)
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
    cp pyproject.toml .venv/carvid-pyproject.toml
fi
