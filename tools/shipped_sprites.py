"""The drawings that carvid comes with, made from those that tools/get_sprites.py gets.

Used by `tools/make_demo.py SPRITES carvid/demo/sprites --shipped`.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from carvid.base.files import make_folder, replacing
from carvid.demo.pictures import Sprites
from carvid.demo.stills import sprite_name

SHIPPED = (
    "airplane", "bicycle", "bird", "sailboat", "bus", "car", "cat", "cow", "dog", "horse",
    "motorcycle", "sheep", "train", "truck", "elephant", "ball", "cup", "banana", "apple", "pizza",
    "cake", "phone", "book", "clock", "teddy bear",
)  # fmt: skip
SIDE = 128
"""The longer side of a drawing, pixels."""
COLORS = 128


def write_shipped(sprites: Sprites, folder: Path) -> None:
    """Write the first drawing of each, which is Fluent Emoji's, as a small PNG."""
    make_folder(folder)
    for noun in SHIPPED:
        picture = Image.fromarray(sprites[noun][0], "RGBA")
        scale = SIDE / max(picture.size)
        size_wh = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size_wh, Image.Resampling.LANCZOS)
        picture = picture.quantize(COLORS, method=Image.Quantize.FASTOCTREE)
        with replacing(folder / sprite_name(noun)) as partial:
            picture.save(partial, format="PNG", optimize=True)
