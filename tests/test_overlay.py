from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from carvid import overlay
from carvid.config import OverlayConfig
from carvid.overlay import color_of, draw_overlay, write_overlay
from carvid.video import open_video
from tests.conftest import make_frames
from tests.test_video import sound_packets, write_with_sound

PLAIN = OverlayConfig(outline=False, labels=False, opacity=0.5)


def test_fill_is_the_expressions_color_and_the_rest_is_untouched() -> None:
    image = make_frames(1)[0]
    labels = np.zeros(image.shape[:2], np.uint8)
    labels[8:20, 4:16] = 2
    made = draw_overlay(image, labels, ["a", "b"], PLAIN)
    expected = (image[8:20, 4:16].astype(int) + color_of(1)) // 2
    assert (made[8:20, 4:16] == expected).all()
    assert (made[labels == 0] == image[labels == 0]).all()


def test_colors_are_distinct() -> None:
    assert len({color_of(k) for k in range(60)}) == 60


@pytest.mark.parametrize("size_hw", [(40, 60), (240, 432), (480, 854)])
def test_labels_stay_inside_and_say_what_is_absent(size_hw: tuple[int, int]) -> None:
    image = np.full((*size_hw, 3), 90, np.uint8)
    labels = np.zeros(size_hw, np.uint8)
    labels[:8, -12:] = 1
    texts = ["a dog in the corner " * 5, "un café", "狗"]
    config = OverlayConfig(outline=True, labels=True)
    made = draw_overlay(image, labels, texts, config, scores=[0.9, 0.1, 0.2])
    assert made.shape == image.shape
    assert (made[-size_hw[0] // 3 :, : size_hw[1] // 2] != 90).any()  # the list of what is absent


def test_labels_have_the_frames_size() -> None:
    with pytest.raises(ValueError, match="labels must be"):
        draw_overlay(make_frames(1)[0], np.zeros((3, 3), np.uint8), ["a"], PLAIN)


def luminance(color: tuple[int, int, int]) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in np.array(color) / 255]  # fmt: skip
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_ink_is_legible_on_every_plate() -> None:
    for color in [*(color_of(k) for k in range(60)), overlay.GREY]:
        dark, light = sorted((luminance(color), luminance(overlay._contrast(color))))
        assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_letters_that_no_font_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "FALLBACK_FONTS", ())
    overlay._fonts.cache_clear()
    try:
        assert overlay._readable("un café à côté", 20)[0] == "un cafe a cote"
        assert overlay._readable("狗 runs", 20)[0] == "? runs"
        assert overlay._readable("a dog, 2 m away…", 20)[0] == "a dog, 2 m away…"
    finally:
        overlay._fonts.cache_clear()


def test_labels_do_not_overlap() -> None:
    taken = [(10, 40, 80, 20)]
    assert overlay._free_row(taken, (20, 45, 50, 20), 200) == 60
    assert overlay._free_row(taken, (20, 30, 50, 20), 200) == 20
    assert overlay._free_row(taken, (95, 45, 50, 20), 200) == 45


def test_a_long_list_of_absent_things_leaves_the_picture_free() -> None:
    image = np.full((240, 432, 3), 90, np.uint8)
    made = draw_overlay(
        image, np.zeros((240, 432), np.uint8), [f"thing {k}" for k in range(50)], OverlayConfig()
    )
    assert (made[:150] == 90).all()
    assert (made[150:] != 90).any()


def test_the_overlay_keeps_the_sound(tmp_path: Path) -> None:
    rate, frames = Fraction(25), make_frames(12, 48, 64)
    write_with_sound(tmp_path / "clip.mp4", "aac", rate)
    planes = np.zeros((12, 48, 64), np.uint8)
    with open_video(tmp_path / "clip.mp4") as reader:
        write_overlay(tmp_path / "out.mp4", reader.info, frames, planes, ["a"], PLAIN)
    wanted, copied = (sound_packets(tmp_path / name) for name in ("clip.mp4", "out.mp4"))
    assert len(wanted) > 0
    assert copied == wanted


def test_the_same_bytes_in_every_process(shared: Path, tmp_path: Path) -> None:
    """As a resumed run must give. Drawn pictures show no difference; real ones do."""
    script = """
import hashlib, sys
from pathlib import Path
from carvid.config import OverlayConfig
from carvid.tracks import overlay_from_folder

masks, clip, path = map(Path, sys.argv[1:])
overlay_from_folder(masks, clip, path, ["a dog", "a dog", "a woman"], OverlayConfig())
print(hashlib.sha1(path.read_bytes()).hexdigest())
"""
    data = shared / "data"
    masks = data / "davis-mini" / "Annotations" / "480p" / "dogs-jump"
    clip = data / "clips" / "dogs-jump.mp4"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", script, masks, clip, tmp_path / "out.mp4"],
            capture_output=True, text=True, check=True, timeout=100,
        ).stdout
        for _ in range(4)
    }  # fmt: skip
    assert len(hashes) == 1
