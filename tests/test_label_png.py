from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carvid.base.errors import DatasetError, OutputError
from carvid.media.label_png import label_map, palette, read_label_png, write_label_png


def test_palette_begins_as_davis_does() -> None:
    colors = np.array(palette()).reshape(256, 3)
    assert colors[:5].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]]
    assert len({tuple(color) for color in colors.tolist()}) == 256


def test_palette_of_real_annotations(shared: Path) -> None:
    path = next((shared / "data" / "davis-mini" / "Annotations" / "480p").glob("*/00000.png"))
    with Image.open(path) as picture:
        used = int(np.array(picture).max()) + 1
        theirs = picture.getpalette()
    assert theirs is not None
    assert theirs[: 3 * used] == palette()[: 3 * used]


def test_round_trip_is_exact_and_repeatable(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (13, 17), dtype=np.uint8)
    write_label_png(tmp_path / "a.png", labels)
    write_label_png(tmp_path / "b.png", labels)
    assert (read_label_png(tmp_path / "a.png") == labels).all()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_label_map_follows_the_rule() -> None:
    planes = np.zeros((2, 1, 5), np.float32)
    planes[0, 0] = [0.49, 0.5, 0.7, 0.6, 0.0]
    planes[1, 0] = [0.40, 0.4, 0.7, 0.9, 0.05]
    assert label_map(planes).tolist() == [[0, 1, 1, 2, 0]]


def test_bad_masks_are_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    (tmp_path / "text.png").write_text("no")
    for name, message in [("rgb", "not an indexed"), ("text", "is no PNG"), ("none", "no mask")]:
        with pytest.raises(DatasetError, match=message):
            read_label_png(tmp_path / f"{name}.png")
    with pytest.raises(ValueError, match="labels must be uint8"):
        write_label_png(tmp_path / "x.png", np.zeros((4, 4)))  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="cannot write"):
        write_label_png(tmp_path / "none" / "x.png", np.zeros((4, 4), np.uint8))
