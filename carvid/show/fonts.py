"""A label's text, and a font of this machine that has its letters."""

from __future__ import annotations

import logging
import subprocess
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from PIL import ImageFont, features

log = logging.getLogger("carvid")

NO_LETTER = "\uffff"
FALLBACK_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf", "arial.ttf", "msyh.ttc",
    "Nirmala.ttf", "Nirmala.ttc", "LeelawUI.ttf", "malgun.ttf", "seguisym.ttf",
    "Kohinoor.ttc", "Thonburi.ttc", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf",
    "NotoSansTamil-Regular.ttf", "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf",
)  # fmt: skip
"""Looked for on the machine, in this order, for letters that Pillow's own font (ASCII) lacks: those
that Linux, macOS and Windows bring. What else is there fontconfig knows."""
MATCHES = 20
"""Of fontconfig's list, whose best come first."""
MATCH_S = 10.0
"""How long fontconfig may take; it may have to read all fonts anew."""
INDEX_BITS = 0xFFFF
"""Of fontconfig's index: the face in a file. The higher bits are an instance of it."""
LETTERS_PER_PX = 4
"""More letters, with marks on them, than any font has in a pixel's width."""
SYMBOLS = {"So", "Sk", "Mn", "Me", "Cf", "Co", "Cn"}
"""Unicode's categories of what may be left away: emoji, modifiers, what is invisible."""


@lru_cache(maxsize=1024)
def lettering(
    text: str, number: int, size: int, limit_px: float
) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return what can be drawn of an expression, no wider than `limit_px`, and the font for it.

    Plain ASCII always takes Pillow's own font, and so looks the same on every machine. Of letters
    that no font here has, accents and symbols are left away; where that does not do, `label k`
    stands for the expression. Either is logged once.

    Args:
        text: the expression.
        number: k of its label.
        size: height of the letters, pixels.
        limit_px: what is longer ends with "…".
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    readable, font = _readable(text, number, size)
    return _shorten(font, readable, limit_px), font


def font_of(tail: str, font: ImageFont.FreeTypeFont, size: int) -> ImageFont.FreeTypeFont:
    """Return the font for what follows a text: the text's, unless it has one script's letters
    alone."""
    return _fonts(size)[0] if _lacking(font, tail) else font


def _readable(text: str, number: int, size: int) -> tuple[str, ImageFont.FreeTypeFont]:
    if _can_shape(text):
        for font in _candidates(text, size):
            if _lacking(font, text) == "":
                return text, font
    fonts = _fonts(size)
    font = min(fonts, key=lambda font: len(_lacking(font, text)))
    plain = _without(font, text)
    if plain is None or not _can_shape(plain):
        plain, font = f"label {number}", fonts[0]
    _tell(text, plain, _lacking(font, text) or text)
    return plain, font


def _without(font: ImageFont.FreeTypeFont, text: str) -> str | None:
    """A text without accents and symbols that a font lacks; None if letters or all are lacking."""
    plain = [x if _has(font, x) else unicodedata.normalize("NFKD", x)[0] for x in text]
    letters = (x for x in plain if _has(font, x) or unicodedata.category(x) not in SYMBOLS)
    kept = " ".join("".join(letters).split())
    return kept if kept and not _lacking(font, kept) else None


@lru_cache(maxsize=1024)
def _tell(text: str, plain: str, letters: str) -> None:
    why = f"no font here has all letters of '{text}'" if _can_shape(text) else (
        f"Pillow here has no libraqm, which joins the letters of '{text}'"
    )  # fmt: skip
    log.warning(
        "%s (%s); the overlay shows '%s'; install a font for them, such as Noto Sans",
        why, " ".join(dict.fromkeys(letters)), plain,
    )  # fmt: skip


def _can_shape(text: str) -> bool:
    """Whether a script's joined, stacked or right-to-left letters can be laid out here."""
    return features.check("raqm") or not any(
        unicodedata.bidirectional(letter) in ("R", "AL") or unicodedata.category(letter)[0] == "M"
        for letter in text
    )


def _candidates(text: str, size: int) -> Iterator[ImageFont.FreeTypeFont]:
    """Fonts that may have all letters of a text: the usual ones, then fontconfig's choice."""
    yield from _fonts(size)
    for file, index in _matches("".join(sorted(set(text)))):
        with suppress(OSError):  # a colour font, which has letters of one size alone
            yield ImageFont.truetype(file, size, index)


@lru_cache(maxsize=256)
def _matches(letters: str) -> tuple[tuple[str, int], ...]:
    """Files and faces that fontconfig has for letters; none where there is no fontconfig."""
    charset = " ".join(f"{ord(letter):x}" for letter in letters)
    command = ["fc-match", "--sort", "--format=%{file}\\t%{index}\\n", f"sans:charset={charset}"]
    try:
        found = subprocess.run(command, capture_output=True, timeout=MATCH_S, check=True).stdout
        lines = found.decode("utf-8", "surrogateescape").splitlines()[:MATCHES]
        pairs = (line.rsplit("\t", 1) for line in lines)
        return tuple((file, int(index) & INDEX_BITS) for file, index in pairs)
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


@lru_cache(maxsize=4)
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    fonts = [own]
    for name in FALLBACK_FONTS:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return tuple(fonts)


def _lacking(font: ImageFont.FreeTypeFont, text: str) -> str:
    """The letters of a text that a font does not have."""
    return "".join(letter for letter in text if not _has(font, letter))


@lru_cache(maxsize=4096)
def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether a font draws a letter otherwise than one that no font has."""
    if letter.isspace() or unicodedata.category(letter) == "Cf" or letter == "\ufe0f":
        return True
    missing, drawn = (_by_itself(font).getmask(x) for x in (NO_LETTER, letter))
    return drawn.size != missing.size or bytes(drawn) != bytes(missing)


@lru_cache(maxsize=64)
def _by_itself(font: ImageFont.FreeTypeFont) -> ImageFont.FreeTypeFont:
    """A font that draws each letter alone; libraqm puts a circle under a lone mark."""
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _shorten(font: ImageFont.FreeTypeFont, text: str, limit_px: float) -> str:
    """A text no wider than a limit, or cut and with "…", if the font has that."""
    most = LETTERS_PER_PX * max(1, int(limit_px))
    if len(text) <= most and font.getlength(text, "L") <= limit_px:
        return text
    text = text[:most]
    end = "…" if _has(font, "…") else ""
    while len(text) > 1 and font.getlength(text + end, "L") > limit_px:
        text = _without_last(text)
    return text.rstrip() + end


def _without_last(text: str) -> str:
    """A text without its last letter and the marks on it."""
    end = len(text) - 1
    while end > 1 and unicodedata.category(text[end])[0] == "M":
        end -= 1
    return text[:end]
