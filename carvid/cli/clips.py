"""Which clips `carvid run` has, where there are several."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from carvid.cli.classes import Asked

if TYPE_CHECKING:
    from carvid.batch.manifest import Clip
    from carvid.media.frames import Selection


def clips_of_manifest(
    manifest: Path | None,
    sources: list[str],
    texts: Asked,
    selection: Selection,
    rate: Fraction | None,
) -> list[Clip]:
    """Return the clips that a manifest lists; none, if there is no manifest."""
    from carvid.batch.manifest import read_manifest

    if manifest is None:
        return []
    if sources or texts:
        raise typer.BadParameter("a manifest says which clips and expressions; give no others")
    return read_manifest(manifest, selection, rate)


def clips_in_folders(folders: list[str]) -> list[str]:
    """Return the clips that are in folders."""
    from carvid.batch.each import clips_in

    if not folders:
        raise typer.BadParameter("--each needs a folder of clips as VIDEO")
    return clips_in(folders)


def clips_of_sources(
    sources: list[str], texts: Asked, selection: Selection, rate: Fraction | None
) -> list[Clip]:
    """Return a clip for each input."""
    from carvid.batch.manifest import clips_of

    return clips_of(sources, texts, selection, rate)
