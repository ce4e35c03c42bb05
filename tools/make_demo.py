#!/usr/bin/env python
"""Draw demo scenes, with the truth of every pixel, from the sprites that tools/get_sprites.py gets.

    tools/make_demo.py SPRITES OUT --example
    tools/make_demo.py SPRITES OUT --scenes 8 --first-seed 100 --frames 48
    tools/make_demo.py SPRITES OUT --scenes 2 --events cut leave --mp4
    tools/make_demo.py SPRITES tests/clips --floors
    tools/make_demo.py SPRITES carvid/demo/sprites --shipped

OUT becomes a data set in the form of Ref-DAVIS 2017, or, with `--mp4`, holds a clip and a folder of
masks for each scene. `--example` draws the one clip that carvid comes with, `--floors` those of
tests/test_floors.py, and `--shipped` writes the drawings of the drawn benchmarks. What is there
already is replaced only with `--overwrite`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from floor_clips import CLIPS, write_floor_clips
from shipped_sprites import SHIPPED, write_shipped
from tqdm import tqdm

from carvid.base.errors import CarvidError, OutputError
from carvid.base.guard import check_apart
from carvid.demo.example import NAME, write_example
from carvid.demo.pictures import load_sprites
from carvid.demo.scenes import EVENTS, SceneSpec, make_scene
from carvid.demo.stills import sprite_name
from carvid.demo.write import TREE, write_clip, write_ref_davis


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sprites", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 854), metavar=("H", "W"))
    parser.add_argument(
        "--events", nargs="*", choices=EVENTS, help="what happens in all; drawn, if not given"
    )
    parser.add_argument("--mp4", action="store_true", help="clips, not a data set")
    parser.add_argument("--example", action="store_true", help=f"the clip {NAME} alone")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in OUT")
    parser.add_argument("--floors", action="store_true", help="the clips of tests/test_floors.py")
    parser.add_argument("--shipped", action="store_true", help="the drawings of drawn benchmarks")
    options = parser.parse_args()
    try:
        draw(options)
    except CarvidError as error:
        print(f"make_demo: {error}", file=sys.stderr)
        return 1
    return 0


def check_places(sprites: Path, places: list[Path], *, overwrite: bool) -> None:
    """Refuse to write onto the sprites, or, unasked, onto anything else."""
    check_apart(sprites.rglob("*"), places, remedy="choose another OUT")
    there = [path for path in places if path.exists()]
    if there and not overwrite:
        raise OutputError(
            f"'{there[0]}' is there already; choose another OUT, or replace it with --overwrite"
        )


def draw(options: argparse.Namespace) -> None:
    sprites = load_sprites(options.sprites)
    seeds = range(options.first_seed, options.first_seed + options.scenes)
    names = [NAME] if options.example else [f"scene-{seed}" for seed in seeds]
    if options.shipped:
        places = [options.out / sprite_name(noun) for noun in SHIPPED]
    elif options.floors:
        places = [options.out / f"{name}{end}" for name in CLIPS for end in (".mp4", ".png")]
    elif options.example or options.mp4:
        places = [options.out / each for name in names for each in (f"{name}.mp4", name)]
    else:
        places = [options.out / name for name in TREE]
    check_places(options.sprites, places, overwrite=options.overwrite)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.shipped:
        write_shipped(sprites, options.out)
        return
    if options.floors:
        write_floor_clips(sprites, options.out)
        return
    if options.example:
        write_example(sprites, options.out)
        return
    specs = [SceneSpec(seed, options.frames, tuple(options.size)) for seed in seeds]
    specs = [
        spec.with_some_events()
        if options.events is None
        else replace(spec, events=tuple(options.events))
        for spec in specs
    ]
    named = [(name, make_scene(spec, sprites)) for name, spec in zip(names, specs, strict=True)]
    bar = tqdm(named, unit="scene")
    if options.mp4:
        for name, scene in bar:
            write_clip(scene, options.out / f"{name}.mp4", options.out / name)
    else:
        write_ref_davis(bar, options.out)


if __name__ == "__main__":
    sys.exit(main())
