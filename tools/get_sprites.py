#!/usr/bin/env python
"""Fetch the drawings that carvid's demo scenes are made of into a folder.

    tools/get_sprites.py FOLDER

Three open sets are taken from npm packages and only the drawings that carvid names are kept:
Noto Emoji (Apache-2.0), Twemoji (graphics CC-BY 4.0) and Fluent Emoji 3D (MIT). Needs npm.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import cv2
import numpy as np

from carvid.demo.pictures import NOUNS

PACKAGES = {
    # set: package, where its drawings are
    "noto": ("emoji-datasource-google@16.0.0", "package/img/google/64/{}.png"),
    "twemoji": ("emoji-datasource-twitter@16.0.0", "package/img/twitter/64/{}.png"),
    "fluent": ("@lobehub/fluent-emoji-3d@1.1.0", "package/assets/{}.webp"),
}


def fetch(package: str, pattern: str, folder: Path) -> None:
    """Unpack the drawings of one npm package as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            ["npm", "pack", "--silent", package], cwd=scratch, check=True, stdout=subprocess.DEVNULL
        )
        with tarfile.open(next(Path(scratch).glob("*.tgz"))) as archive:
            for code, *_ in NOUNS.values():
                member = archive.extractfile(pattern.format(code))
                assert member is not None
                data = np.frombuffer(member.read(), np.uint8)
                picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
                cv2.imwrite(str(folder / f"{code}.png"), picture)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, (package, pattern) in PACKAGES.items():
        print(f"{name}: {package}", file=sys.stderr)
        fetch(package, pattern, folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
