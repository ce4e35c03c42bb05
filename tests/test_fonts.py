from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont, features

from carvid.config import OverlayConfig
from carvid.show import fonts
from carvid.show.overlay import draw_overlay


def test_letters_that_no_font_has(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts, "FALLBACK_FONTS", ())
    monkeypatch.setenv("PATH", "")  # no fontconfig
    clear_fonts()
    try:
        with caplog.at_level("WARNING", "carvid"):
            for text, shown in (
                ("un café à côté", "un cafe a cote"), ("狗 runs", "label 7"), ("🦮", "label 7"),
                ("a dog 🦮 runs", "a dog runs"), ("कुत्ता", "label 7"), ("كلب", "label 7"),
                ("a dog, 2 m away…", "a dog, 2 m away…"), ("x\u0304", "x"),
            ):  # fmt: skip
                assert fonts.lettering(text, 7, 20, 500)[0] == shown
                assert fonts.lettering(text, 7, 24, 500)[0] == shown
    finally:
        clear_fonts()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 7  # of each text once
    assert said[1] == (
        "no font here has all letters of '狗 runs' (狗); the overlay shows 'label 7'; install a "
        "font for them, such as Noto Sans"
    )


def clear_fonts() -> None:
    for cached in (fonts._fonts, fonts._matches, fonts._tell, fonts.lettering):
        cached.cache_clear()


def test_a_font_of_one_script_is_found_and_gets_another_for_the_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for fontconfig names a font that has Arabic, and none of the usual ones is there;
    of what follows it lacks the letters."""
    program = tmp_path / "fc-match"
    program.write_text("#!/bin/sh\nprintf '%s\\t65536\\n' /none.ttf DejaVuSans.ttf\n")
    program.chmod(0o755)
    monkeypatch.setattr(fonts, "FALLBACK_FONTS", ())
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    clear_fonts()
    try:
        try:
            ImageFont.truetype("DejaVuSans.ttf", 20)
        except OSError:
            pytest.skip("DejaVu Sans is not here")
        name, font = fonts.lettering("الكلب", 1, 20, 500)
        assert (name, font.getname()[0]) == ("الكلب", "DejaVu Sans")
        assert fonts.font_of("  0.50", font, 20) is font
        assert fonts.font_of("  狗", font, 20) is fonts._fonts(20)[0]
        if features.check("raqm"):  # joined, and so narrower than letter by letter
            letters = sum(font.getlength(letter) for letter in name)
            assert font.getlength(name) < 0.95 * letters
    finally:
        clear_fonts()


def test_without_libraqm_scripts_that_need_it_are_not_drawn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    clear_fonts()
    try:
        for text in ("كلب", "כלב", "कुत्ता"):
            assert fonts.lettering(text, 2, 20, 500)[0] == "label 2"
        assert "Pillow here has no libraqm" in caplog.text
    finally:
        clear_fonts()


def test_long_labels() -> None:
    for side in (12, 40, 200):
        for text in ("a very long name of a thing " * 400, "狗" * 3000, "e\u0301\u0302" * 900):
            labels = np.ones((side, side), np.uint8)
            draw_overlay(np.zeros((side, side, 3), np.uint8), labels, [text], OverlayConfig())
            draw_overlay(np.zeros((side, side, 3), np.uint8), 0 * labels, [text], OverlayConfig())
    font = fonts._fonts(20)[0]
    shortened = fonts._shorten(font, "a name that is too long", 100)
    assert shortened.endswith("…") and font.getlength(shortened) <= 100
    assert fonts._without_last("ab\u0301\u0302") == "a"
