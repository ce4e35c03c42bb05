"""What drawn scenes are made of: words, sprites, named backgrounds, and exact labels.

Sprites (drawn things with alpha) are recoloured, turned and pasted over painted backgrounds, and
the label map follows exactly. The embedded CLIP is trained on such pictures.

Sprites are read from a folder (`tools/get_sprites.py` makes it); they are needed to draw, never to
run carvid. Axis letters as in the package docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from carvid.base.errors import DatasetError

Image = NDArray[np.uint8]
Sprites = Mapping[str, Sequence[Image]]
"""Noun → its drawings, each uint8 (h, w, 4) RGBA, cropped to what is drawn."""

NOUNS: dict[str, tuple[str, ...]] = {
    "dog": ("1f415", "puppy", "hound"), "cat": ("1f408", "kitten", "kitty"),
    "horse": ("1f40e", "pony", "stallion"), "cow": ("1f404", "cattle"),
    "pig": ("1f416", "hog", "swine"), "sheep": ("1f411", "lamb", "ewe"),
    "rabbit": ("1f407", "bunny", "hare"), "elephant": ("1f418",), "tiger": ("1f405", "big cat"),
    "monkey": ("1f412", "ape"), "bird": ("1f426", "robin", "sparrow"), "duck": ("1f986",),
    "rooster": ("1f413", "chicken", "hen"), "penguin": ("1f427",), "fish": ("1f41f",),
    "whale": ("1f433",), "octopus": ("1f419", "squid"), "turtle": ("1f422", "tortoise"),
    "snake": ("1f40d", "serpent"), "crocodile": ("1f40a", "alligator"),
    "butterfly": ("1f98b",), "bee": ("1f41d", "wasp"), "snail": ("1f40c", "slug"),
    "crab": ("1f980",), "owl": ("1f989",), "panda": ("1f43c",), "frog": ("1f438", "toad"),
    "car": ("1f697", "automobile", "sedan"), "bus": ("1f68c", "coach"),
    "truck": ("1f69a", "lorry"), "bicycle": ("1f6b2", "bike", "cycle"),
    "motorcycle": ("1f3cd-fe0f", "motorbike"), "train": ("1f682", "locomotive", "steam engine"),
    "airplane": ("2708-fe0f", "plane", "aeroplane", "jet"), "helicopter": ("1f681", "chopper"),
    "rocket": ("1f680", "spaceship"), "sailboat": ("26f5", "boat", "yacht"),
    "tractor": ("1f69c",), "ball": ("26bd", "soccer ball", "football"),
    "basketball": ("1f3c0",), "guitar": ("1f3b8",), "drum": ("1f941",),
    "umbrella": ("2614", "parasol"), "hat": ("1f3a9", "top hat"), "shoe": ("1f45f", "sneaker"),
    "shirt": ("1f455", "t-shirt"), "key": ("1f511",), "clock": ("23f0", "alarm clock"),
    "book": ("1f4d5", "notebook"), "phone": ("1f4f1", "mobile phone", "smartphone"),
    "camera": ("1f4f7",), "television": ("1f4fa", "tv"), "cup": ("2615", "mug", "coffee cup"),
    "apple": ("1f34e",), "banana": ("1f34c",), "strawberry": ("1f353", "berry"),
    "pizza": ("1f355", "slice of pizza"), "burger": ("1f354", "hamburger"),
    "cake": ("1f382", "birthday cake"), "ice cream": ("1f366", "soft ice"),
    "sunflower": ("1f33b",), "rose": ("1f339",), "mushroom": ("1f344", "toadstool"),
    "cactus": ("1f335",), "balloon": ("1f388",), "robot": ("1f916",),
    "teddy bear": ("1f9f8", "teddy"), "gift": ("1f381", "present", "parcel"),
    "crown": ("1f451",), "backpack": ("1f392", "rucksack"), "pumpkin": ("1f383",),
    "snowman": ("26c4",),
}  # fmt: skip
"""Noun → the code point of its drawing, then its synonyms."""

HUES = {"red": 0, "yellow": 27, "green": 58, "blue": 110, "purple": 138, "pink": 164}
"""Colour word → hue, in OpenCV's half degrees."""

MOTIONS = {
    "jump": ("jumping", "hopping"), "run": ("running", "moving"), "roll": ("rolling", "spinning"),
    "grow": ("coming closer", "growing"), "turn": ("turning", "tilting"),
    "stand": ("standing still", ""),
}  # fmt: skip
"""Motion → words that describe it."""


# sprites ------------------------------------------------------------------------------------


def load_sprites(folder: Path) -> dict[str, list[Image]]:
    """Read `folder/<set>/<code point>.png` for every noun.

    Raises:
        DatasetError: a drawing is missing; the message names all that are.
    """
    sets = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    sprites: dict[str, list[Image]] = {}
    missing = []
    for noun, (code, *_) in NOUNS.items():
        sprites[noun] = []
        for one in sets:
            picture = cv2.imread(str(one / f"{code}.png"), cv2.IMREAD_UNCHANGED)
            if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
                missing.append(f"{one.name}/{code}.png")
            else:
                sprites[noun].append(_crop(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA)))
    if missing or not sets:
        raise DatasetError(
            f"'{folder}' lacks sprites: {', '.join(missing[:5]) or 'it has no sets'}; "
            "make the folder with tools/get_sprites.py"
        )
    return sprites


def _crop(sprite: NDArray[np.generic]) -> Image:
    rows, columns = np.nonzero(np.asarray(sprite)[..., 3] > 8)
    return np.asarray(sprite, np.uint8)[
        rows.min() : rows.max() + 1, columns.min() : columns.max() + 1
    ]


def recolor(sprite: Image, color: str) -> Image:
    """Return an RGBA sprite with the hue of `HUES[color]`; grey parts keep their grey."""
    hsv = cv2.cvtColor(sprite[..., :3], cv2.COLOR_RGB2HSV)
    hsv[..., 0] = HUES[color]
    hsv[..., 1] = np.where(hsv[..., 1] > 25, np.maximum(hsv[..., 1], 150), hsv[..., 1])
    return np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), sprite[..., 3]])


def transform(sprite: Image, height: float, angle_deg: float = 0.0, *, flip: bool = False) -> Image:
    """Scale an RGBA sprite to `height` pixels (before turning), flip it, turn it clockwise."""
    h, w = sprite.shape[:2]
    scale = height / h
    alpha = sprite[..., 3:].astype(np.float32) / 255
    source = np.dstack([sprite[..., :3] * alpha, sprite[..., 3]]).astype(np.uint8)
    if flip:
        source = np.ascontiguousarray(source[:, ::-1])
    while scale < 0.5 and min(source.shape[:2]) > 8:  # halve first: bilinear alone would alias
        source = cv2.resize(source, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        scale = height / source.shape[0]
    h, w = source.shape[:2]
    radians = math.radians(angle_deg)
    cos, sin = math.cos(radians) * scale, math.sin(radians) * scale
    out_w = max(2, math.ceil(abs(w * cos) + abs(h * sin)) + 2)
    out_h = max(2, math.ceil(abs(w * sin) + abs(h * cos)) + 2)
    matrix = np.array(
        [
            [cos, -sin, out_w / 2 - cos * w / 2 + sin * h / 2],
            [sin, cos, out_h / 2 - sin * w / 2 - cos * h / 2],
        ]
    )
    return np.asarray(cv2.warpAffine(source, matrix, (out_w, out_h)), np.uint8)


def paste(
    image: Image,
    labels: Image,
    sprite: Image,
    center_xy: tuple[float, float],
    label: int,
) -> None:
    """Put a premultiplied RGBA sprite onto `image` and `label` onto `labels`, in place.

    Args:
        image: uint8 (H, W, 3) RGB.
        labels: uint8 (H, W); the label goes where the sprite covers at least half a pixel.
        sprite: uint8 (h, w, 4), from `transform`.
        center_xy: where its centre goes; parts outside the image are cut off.
        label: the object's label.
    """
    h, w = sprite.shape[:2]
    x, y = round(center_xy[0] - w / 2), round(center_xy[1] - h / 2)
    x0, y0 = max(0, x), max(0, y)
    x1, y1 = min(image.shape[1], x + w), min(image.shape[0], y + h)
    if x0 >= x1 or y0 >= y1:
        return
    part = sprite[y0 - y : y1 - y, x0 - x : x1 - x]
    keep = 255 - part[..., 3:].astype(np.uint16)
    region = image[y0:y1, x0:x1]
    region[:] = np.minimum(255, part[..., :3] + (region * keep + 127) // 255)
    labels[y0:y1, x0:x1][part[..., 3] >= 128] = label


# backgrounds --------------------------------------------------------------------------------

Painter = Callable[[np.random.Generator, tuple[int, int]], Image]


def _noise(rng: np.random.Generator, size_hw: tuple[int, int], cells: float) -> NDArray[np.float32]:
    """Smooth noise in [0, 1] with about `cells` bumps along the longer side."""
    height, width = size_hw
    side = max(height, width) / cells
    coarse = rng.random((max(2, round(height / side)) + 1, max(2, round(width / side)) + 1))
    fine = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    smooth: NDArray[np.float32] = np.clip(fine, 0, 1)
    return smooth


def _mix(low: Sequence[float], high: Sequence[float], weight: NDArray[np.float32]) -> Image:
    weight = weight[..., None]
    blended = np.array(low, np.float32) * (1 - weight) + np.array(high, np.float32) * weight
    return np.clip(blended, 0, 255).astype(np.uint8)


def _jitter(rng: np.random.Generator, color: Sequence[int], amount: float = 18.0) -> list[float]:
    shift = rng.normal(0, amount * 0.6)
    return [float(np.clip(c + shift + rng.normal(0, amount * 0.5), 0, 255)) for c in color]


def _texture(
    dark: Sequence[int], light: Sequence[int], cells: Sequence[float], grain: float
) -> Painter:
    """A painter of layered noise between two colours."""

    def paint(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
        layers = np.mean([_noise(rng, size_hw, c * rng.uniform(0.7, 1.4)) for c in cells], axis=0)
        layers = layers + rng.normal(0, grain, size_hw)
        return _mix(_jitter(rng, dark), _jitter(rng, light), np.clip(layers, 0, 1))

    return paint


def _stretched(
    dark: Sequence[int], light: Sequence[int], stretch_yx: tuple[float, float]
) -> Painter:
    """A painter of noise drawn out in one direction: waves, planks, blades of grass."""

    def paint(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
        small = (max(2, int(size_hw[0] / stretch_yx[0])), max(2, int(size_hw[1] / stretch_yx[1])))
        field = cv2.resize(rng.random(small).astype(np.float32), size_hw[::-1])
        field = 0.6 * field + 0.4 * _noise(rng, size_hw, 6)
        return _mix(_jitter(rng, dark), _jitter(rng, light), np.clip(field, 0, 1))

    return paint


def _sky(top: Sequence[int], bottom: Sequence[int], clouds: float) -> Painter:
    def paint(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
        ramp = np.repeat(np.linspace(0, 1, size_hw[0], dtype=np.float32)[:, None], size_hw[1], 1)
        base = _mix(_jitter(rng, top), _jitter(rng, bottom), ramp).astype(np.float32)
        cloud = np.mean([_noise(rng, size_hw, c) for c in (5, 11, 23)], axis=0)
        white = np.clip((cloud - 0.62 + 0.12 * clouds) * 5, 0, 0.9 * min(1.0, clouds))[..., None]
        clouded: Image = (base * (1 - white) + 245 * white).astype(np.uint8)
        return clouded

    return paint


def _tiles(
    face: Sequence[int], joint: Sequence[int], tile_hw: tuple[int, int], *, shifted: bool
) -> Painter:
    """A painter of bricks (every other row shifted) or floor tiles."""

    def paint(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
        scale = rng.uniform(0.7, 1.5)
        th, tw = max(4, int(tile_hw[0] * scale)), max(4, int(tile_hw[1] * scale))
        rows, columns = size_hw[0] // th + 2, size_hw[1] // tw + 3
        shade = rng.normal(0, 12, (rows, columns))
        y, x = np.mgrid[: size_hw[0], : size_hw[1]]
        row = y // th
        x = x + (row % 2) * (tw // 2) * int(shifted)
        line = (y % th < 2) | (x % tw < 2)
        tone = shade[row, x // tw][..., None] + rng.normal(0, 4, (*size_hw, 1))
        color = np.where(line[..., None], _jitter(rng, joint), np.array(_jitter(rng, face)) + tone)
        return np.clip(color, 0, 255).astype(np.uint8)

    return paint


@dataclass(frozen=True)
class Surface:
    """A kind of background."""

    paint: Painter
    words: tuple[str, ...]
    """What it is called; of carvid's background queries, where one fits."""
    above: bool = False
    """It is seen above a horizon, not below."""


SURFACES: dict[str, Surface] = {
    "grass": Surface(_stretched((45, 95, 30), (125, 175, 75), (6, 2)), ("grass", "land")),
    "lawn": Surface(_texture((60, 120, 45), (120, 180, 90), (5, 40), 0.12), ("grass", "ground")),
    "dirt": Surface(_texture((95, 70, 45), (165, 130, 95), (6, 30), 0.12), ("ground", "land")),
    "road": Surface(_texture((70, 70, 72), (115, 115, 118), (4, 60), 0.12), ("road", "street")),
    "rock": Surface(_texture((80, 78, 74), (165, 160, 150), (5, 13, 30), 0.08), ("rock",)),
    "water": Surface(_stretched((25, 75, 130), (95, 160, 200), (3, 14)), ("water", "lake")),
    "sea": Surface(_stretched((15, 60, 100), (60, 140, 165), (5, 26)), ("sea", "ocean", "water")),
    "brick": Surface(
        _tiles((150, 75, 60), (190, 180, 170), (18, 44), shifted=True), ("wall", "building"), True
    ),
    "plaster": Surface(
        _texture((190, 180, 160), (230, 222, 205), (4, 25), 0.05), ("wall", "house"), True
    ),
    "blue sky": Surface(_sky((70, 130, 215), (175, 210, 240), 0.5), ("sky",), True),
    "cloudy sky": Surface(_sky((120, 150, 190), (200, 210, 220), 1.2), ("sky", "cloud"), True),
    "forest": Surface(_texture((20, 50, 20), (80, 125, 60), (9, 24, 50), 0.08), ("tree",), True),
    "mountain": Surface(
        _texture((75, 85, 100), (160, 165, 175), (3, 9, 20), 0.04), ("mountain", "rock"), True
    ),
}
"""The backgrounds that the embedded model is trained on."""

HELD_OUT_SURFACES: dict[str, Surface] = {
    "sand": Surface(_texture((190, 165, 115), (232, 212, 165), (5, 50), 0.08), ("ground", "land")),
    "snow": Surface(_texture((205, 212, 225), (250, 251, 255), (4, 14), 0.03), ("ground", "land")),
    "planks": Surface(_stretched((105, 72, 45), (165, 120, 80), (9, 60)), ("ground",)),
    "paving": Surface(
        _tiles((150, 150, 145), (100, 100, 98), (40, 40), shifted=False), ("street", "road")
    ),
    "meadow": Surface(_stretched((95, 120, 35), (185, 195, 95), (8, 3)), ("grass", "land")),
    "evening sky": Surface(_sky((85, 65, 120), (240, 165, 110), 0.4), ("sky",), True),
    "grey bricks": Surface(
        _tiles((125, 125, 130), (85, 85, 88), (24, 60), shifted=True), ("wall", "building"), True
    ),
    "autumn": Surface(_texture((95, 50, 20), (205, 140, 55), (9, 26, 50), 0.08), ("tree",), True),
}
"""Backgrounds never trained on, for measuring."""


def random_surface(rng: np.random.Generator) -> Surface:
    """Make up a surface of any colours, unnamed: for training that must not learn places."""
    dark, light = (tuple(int(c) for c in color) for color in rng.integers(0, 256, (2, 3)))
    near = rng.random() < 0.7  # most real surfaces have one colour
    light = (
        tuple(int(d + (c - d) * 0.35) for d, c in zip(dark, light, strict=True)) if near else light
    )
    above, kind = bool(rng.random() < 0.5), rng.integers(4)
    if kind == 0:
        cells = rng.uniform(2, 60, int(rng.integers(1, 4)))
        return Surface(_texture(dark, light, cells.tolist(), rng.uniform(0, 0.15)), (), above)
    if kind == 1:
        stretch_y, stretch_x = np.exp(rng.uniform(0, math.log(60), 2))
        return Surface(_stretched(dark, light, (stretch_y, stretch_x)), (), above)
    if kind == 2:
        return Surface(_sky(dark, light, rng.uniform(0, 1.2)), (), above)
    tile_h, tile_w = (int(side) for side in rng.integers(10, 90, 2))
    shifted = bool(rng.random() < 0.5)
    return Surface(_tiles(dark, light, (tile_h, tile_w), shifted=shifted), (), above)


def paint_background(
    rng: np.random.Generator, size_hw: tuple[int, int], surfaces: Collection[Surface]
) -> tuple[Image, Image, tuple[tuple[str, ...], ...]]:
    """Paint a place: one of `surfaces`, or one above another where there are both kinds.

    Returns:
        uint8 (H, W, 3) RGB; uint8 (H, W), which surface is where; the words of each surface.
    """
    all_of_them = list(surfaces)
    above = [surface for surface in all_of_them if surface.above]
    below = [surface for surface in all_of_them if not surface.above]
    which = np.zeros(size_hw, np.uint8)
    if rng.random() < 0.35 or not above or not below:
        surface = all_of_them[rng.integers(len(all_of_them))]
        return surface.paint(rng, size_hw), which, (surface.words,)
    upper, lower = above[rng.integers(len(above))], below[rng.integers(len(below))]
    image = upper.paint(rng, size_hw)
    edge = size_hw[0] * (rng.uniform(0.3, 0.65) + 0.06 * (_noise(rng, (1, size_hw[1]), 5)[0] - 0.5))
    is_below = np.arange(size_hw[0])[:, None] > edge[None]
    image[is_below] = lower.paint(rng, size_hw)[is_below]
    which[is_below] = 1
    return image, which, (upper.words, lower.words)
