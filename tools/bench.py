#!/usr/bin/env python
"""How long things take, against the plain way of doing them, in one run.

tools/bench.py jf                 the evaluator against the official steps, done plainly
tools/bench.py label-maps         1,449 label maps of VOC's size against their truth: time, memory
tools/bench.py crf DATA           the fast CRF against pydensecrf, on frames of a DAVIS tree
tools/bench.py temporal SPRITES   clips segmented frame by frame, and along time
tools/bench.py real DATA          DAVIS frames with CLIP simulated, frame by frame and along time
tools/bench.py carry DATA VIDEO   the truth of the first frame, carried without CLIP
tools/bench.py cuts DATA          what is taken for a cut: clips without, joins, dissolves
tools/bench.py twins SPRITES      look-alikes told apart by place or motion
tools/bench.py clicks --real DATA --drawn SPRITES  what corrections by click are worth
tools/bench.py instances          every thing of a kind with a label of its own, kept or not
tools/bench.py speed FRAMES       where a frame's time goes, against its bare network passes
tools/bench.py index FRAMES       the size of a clip's index, and what answers from it cost
tools/bench.py bfloat16           network passes in float32 and in bfloat16, and how far they agree
tools/bench.py classes            proposals of few and many texts, by gradients and dense
tools/bench.py cluster            many clips on a cluster of Ray: what scheduling costs, a node lost
tools/bench.py worker [FRAMES]    how long a worker of a cluster takes for a clip, and its memory
tools/bench.py busy               a run beside a busy core, and two runs at once
tools/bench.py memory             resident memory while a long clip is streamed
tools/bench.py large              a run on a few frames of 4K, scaled down
tools/bench.py seek               a part near a long clip's end, against one at its beginning
tools/bench.py edges SPRITES      edges of masks at key frames and between them, at 1080p
tools/bench.py hd                 prompts as CLIP sees them, time and memory, at 480p, 1080p and 4K

Each command imports torch only if it needs it: every process that an evaluation starts imports this
file once more.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from carvid.base.masks import iou
from carvid.base.threads import sleeping_threads
from carvid.car.crf import crf_masks
from carvid.config import CrfConfig, load_config
from carvid.evaluation.protocols import evaluate
from carvid.evaluation.regions import boundary_radius
from carvid.media.label_png import write_label_png

SIZE_WH = (854, 480)
"""The usual size of DAVIS, which is also the one that pydensecrf is slow at."""

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)


@app.callback(help=__doc__)
def root() -> None:
    """Show the text above as help."""


@app.command()
def jf(
    frames: Annotated[int, typer.Option(help="Frames in all.")] = 934,
    videos: Annotated[int, typer.Option(help="Videos that they are shared among.")] = 30,
    objects: Annotated[int, typer.Option(help="Objects in each (DAVIS val: 61 in 30).")] = 2,
    height: int = 480,
    width: int = 854,
    workers: Annotated[int, typer.Option(help="Processes, beside one.")] = 2,
    repeats: Annotated[int, typer.Option(help="Runs; the fastest counts.")] = 3,
) -> None:
    """Time J and F of drawn label maps; the same numbers must come out."""
    failed = False
    # A process of its own, so that nothing the evaluator does to this one helps or hinders it.
    alone = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with tempfile.TemporaryDirectory() as folder, alone:
        data = Path(folder)
        draw_tree(data, frames, videos, objects, (height, width))
        print(f"{frames} frames of {width}×{height}, {videos} videos of {objects} objects")
        for protocol in ("semi-supervised", "unsupervised"):
            seconds: dict[str, list[float]] = {}
            for _ in range(repeats):
                taken, expected = alone.submit(timed, plain, data, protocol).result()
                seconds.setdefault("plain", []).append(taken)
                for count in (1, workers):
                    taken, found = timed(evaluated, data, protocol, count)
                    seconds.setdefault(f"processes_{count}", []).append(taken)
                    failed |= not np.allclose(found, expected, rtol=0, atol=1e-12)
            best = {name: min(each) for name, each in seconds.items()}
            line = {f"{name}_s": round(each, 2) for name, each in best.items()}
            for count in (1, workers):
                ratio = best["plain"] / best[f"processes_{count}"]
                line[f"ratio_{count}"] = round(ratio, 1)
            print(json.dumps({"protocol": protocol, **line}))
        largest = max(  # of the children only those that have ended, which are the evaluator's
            resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        print(f"largest process of the evaluator: {largest:.0f} MB")
    if failed:
        print("the numbers differ", file=sys.stderr)
        raise typer.Exit(1)


def evaluated(data: Path, protocol: str, workers: int) -> list[float]:
    """J and F of each object by the evaluator."""
    report = evaluate(data / "predictions", data, protocol, workers=workers)
    return [value for o in report.objects for value in (o.j.mean, o.f.mean)]


@app.command("label-maps")
def label_maps(
    maps: Annotated[list[int], typer.Option(help="How many; VOC's val has 1449.")] = [1449, 300],  # noqa: B006
    workers: Annotated[list[int], typer.Option(help="Processes.")] = [1, 2],  # noqa: B006
    repeats: Annotated[int, typer.Option(help="Runs; the fastest counts.")] = 2,
) -> None:
    """Time the scoring of drawn label maps, and tell the largest process's resident memory.

    Memory is flat if many maps take as much as few.
    """
    import label_maps_bench

    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with ProcessPoolExecutor(1, context) as alone:
            alone.submit(label_maps_bench.draw_set, Path(folder), max(maps)).result()
        for count in maps:
            for processes in workers:
                runs = []
                for _ in range(repeats):
                    with ProcessPoolExecutor(1, context) as alone:  # with memory of its own
                        run = alone.submit(label_maps_bench.measure, Path(folder), count, processes)
                        runs.append(run.result())
                print(json.dumps(min(runs, key=lambda each: float(each["score_s"]))))


@app.command()
def crf(
    data: Annotated[Path, typer.Argument(help="JPEGImages/480p and Annotations/480p are there.")],
    frames: Annotated[int, typer.Option(help="Frames of each video, evenly spaced.")] = 3,
    repeats: Annotated[int, typer.Option(help="Runs on each frame; the median counts.")] = 1,
) -> None:
    """Time the CRF of 1 and of 5 masks at 854×480: plain, padded to 856, exact and fast.

    `plain` and `padded` call the library once for each mask, as the released code does; `exact` and
    `fast` are carvid's modes. Other frame sizes are scaled to 854×480. The proposals are made from
    the truth as CAMs come about (`soften`).
    """
    exact, fast = CrfConfig(mode="exact"), CrfConfig(mode="fast")
    slow = CrfConfig(mode="exact", pad_slow_sizes=False)
    modes: dict[str, Callable[[NDArray[np.uint8], NDArray[np.float32]], NDArray[np.bool_]]] = {
        "plain": lambda image, masks: one_by_one(image, masks, slow),
        "padded": lambda image, masks: one_by_one(image, masks, exact),
        "exact": lambda image, masks: crf_masks(image, masks, exact, joint=False),
        "fast": lambda image, masks: crf_masks(image, masks, fast, joint=False),
    }
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    times: dict[tuple[int, str], list[float]] = {}
    close: dict[int, list[float]] = {1: [], 5: []}
    for image, truths in tqdm(list(truth_frames(data, frames)), unit="frame", leave=False):
        # Different CAMs of the same things fill up the five.
        five = np.stack([soften(truths[k % len(truths)], rng) for k in range(5)])
        for proposals in (five[:1], five):
            count, found = len(proposals), {}
            for _ in range(repeats):
                for name, mode in modes.items():
                    start = time.perf_counter()
                    found[name] = mode(image, proposals)
                    times.setdefault((count, name), []).append(time.perf_counter() - start)
            assert np.array_equal(found["exact"], found["padded"])
            close[count] += [iou(*pair) for pair in zip(found["fast"], found["exact"], strict=True)]
    for count in (1, 5):
        seconds = {name: float(np.median(times[count, name])) for name in modes}
        line = {"masks": count, **{f"{name}_s": round(s, 3) for name, s in seconds.items()}}
        line |= {f"{n}/fast": round(seconds[n] / seconds["fast"], 1) for n in ("plain", "padded")}
        worst = round(min(close[count]), 3)
        line |= {"iou_mean": round(float(np.mean(close[count])), 4), "iou_min": worst}
        print(json.dumps(line))


def one_by_one(
    image: NDArray[np.uint8], proposals: NDArray[np.float32], config: CrfConfig
) -> NDArray[np.bool_]:
    each = [crf_masks(image, proposal[None], config, joint=False) for proposal in proposals]
    return np.concatenate(each)


def truth_frames(
    data: Path, count: int
) -> Iterator[tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]]:
    """Frames at 854×480, uint8 (H, W, 3) RGB, each with the masks of the objects in it."""
    for folder in sorted((data / "Annotations" / "480p").iterdir()):
        paths = sorted(folder.glob("*.png"))
        for path in (paths[i] for i in np.linspace(0, len(paths) - 1, count).astype(int)):
            picture = data / "JPEGImages" / "480p" / folder.name / f"{path.stem}.jpg"
            image = cv2.resize(
                np.array(Image.open(picture)), SIZE_WH, interpolation=cv2.INTER_CUBIC
            )
            labels = cv2.resize(
                np.array(Image.open(path)), SIZE_WH, interpolation=cv2.INTER_NEAREST
            )
            if labels.any():
                yield image, [labels == k for k in np.unique(labels[labels > 0])]


def soften(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.float32]:
    """Make of a true mask what a CAM would be: float32 (H, W) in [0, 1].

    Its share of each patch of 16 pixels, blurred over the patches, with uneven strength (20 %) and
    a leak into the background (5 %), both smooth; scaled to [0, 1] and enlarged.
    """
    patches_wh = SIZE_WH[0] // 16 + 1, SIZE_WH[1] // 16
    cam = cv2.resize(mask.astype(np.float32), patches_wh, interpolation=cv2.INTER_AREA)
    strength, leak = (
        cv2.GaussianBlur(rng.standard_normal(cam.shape), (0, 0), 2.0) * 5 for _ in range(2)
    )
    cam = cv2.GaussianBlur(cam, (0, 0), 1.0) * np.clip(1 + 0.2 * strength, 0.3, None)
    cam += np.clip(0.05 * leak, 0, None)
    cam = (cam - cam.min()) / (cam.max() - cam.min())
    return cv2.resize(cam.astype(np.float32), SIZE_WH, interpolation=cv2.INTER_LINEAR)


def draw_tree(root: Path, frames: int, videos: int, objects: int, size: tuple[int, int]) -> None:
    """Write ellipses that drift, as truth of both kinds, and ragged copies as predictions."""
    rng = np.random.default_rng(0)
    for number, indices in enumerate(np.array_split(np.arange(frames), videos)):
        name = f"video-{number:02d}"
        folders = [
            root / kind / "480p" / name for kind in ("Annotations", "Annotations_unsupervised")
        ]
        folders.append(root / "predictions" / name)
        for folder in folders:
            folder.mkdir(parents=True)
        centre = rng.uniform(0.2, 0.8, (objects, 2)) * size
        axes = rng.uniform(0.06, 0.25, (objects, 2)) * size[0]
        for index in range(len(indices)):
            centre += rng.normal(0, 3, centre.shape)
            truth = draw(centre, axes, size)
            wrong = draw(centre + rng.normal(0, 4, centre.shape), axes * 1.05, size)
            holes = cv2.resize(rng.random((size[0] // 12, size[1] // 12)), size[::-1]) > 0.9
            for folder, labels in zip(folders, (truth, truth, wrong * ~holes), strict=True):
                write_label_png(folder / f"{index:05d}.png", labels)


def draw(
    centre: NDArray[np.float64], axes: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.uint8]:
    labels = np.zeros(size, np.uint8)
    for k, ((y, x), (ry, rx)) in enumerate(zip(centre, axes, strict=True), start=1):
        cv2.ellipse(labels, (round(x), round(y)), (round(rx), round(ry)), 0, 0, 360, k, -1)
    return labels


def timed(work: Callable[..., list[float]], *arguments: object) -> tuple[float, list[float]]:
    """How long it takes, in seconds, and its values."""
    start = time.perf_counter()
    values = work(*arguments)
    return time.perf_counter() - start, values


def plain(root: Path, protocol: str) -> list[float]:
    """J and F of each object by the official steps, one pair after another.

    As the official code does it, but for its copies that change nothing: every mask of a video is
    in memory, labels are float64, void is looked at for each pair, and whole frames are dilated.
    """
    from scipy.optimize import linear_sum_assignment

    matched = protocol == "unsupervised"
    kind = "Annotations_unsupervised" if matched else "Annotations"
    values: list[float] = []
    for folder in sorted((root / kind / "480p").iterdir()):
        names = [path.name for path in sorted(folder.iterdir())]
        truth = plain_read(folder, names)
        void = (truth == 255).astype(float)
        truth[truth == 255] = 0
        objects = plain_masks(truth, int(truth[0].max()))
        if not matched:
            names, objects, void = names[1:-1], objects[:, 1:-1], np.zeros_like(void[1:-1])
        shown = plain_read(root / "predictions" / folder.name, names)
        labels = plain_masks(shown, int(shown.max()))
        lacking = np.zeros((max(len(objects) - len(labels), 0), *shown.shape), bool)
        labels = np.concatenate([labels, lacking])
        table = np.zeros((len(labels), len(objects), 2))
        for b, true in enumerate(objects):
            for a, predicted in enumerate(labels):
                if matched or a == b:
                    f = [plain_f(*frame) for frame in zip(predicted, true, void, strict=True)]
                    table[a, b] = plain_j(predicted, true, void).mean(), np.mean(f)
        rows = columns = np.arange(len(objects))
        if matched:
            rows, columns = linear_sum_assignment(-table.mean(axis=2))
        values += table[rows, columns].ravel().tolist()
    return values


def plain_read(folder: Path, names: list[str]) -> NDArray[np.float64]:
    first = np.array(Image.open(folder / names[0]))
    labels = np.zeros((len(names), *first.shape))
    for t, name in enumerate(names):
        labels[t] = np.array(Image.open(folder / name))
    return labels


def plain_masks(labels: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    ids = np.ones((count, *labels.shape)) * np.arange(1, count + 1)[:, None, None, None]
    return ids == labels[None]


def plain_j(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.float64]
) -> NDArray[np.float64]:
    void_pixels = void.astype(bool)
    both = np.sum(predicted & truth & ~void_pixels, axis=(1, 2))
    either = np.sum((predicted | truth) & ~void_pixels, axis=(1, 2))
    return np.where(either == 0, 1, both / np.maximum(either, 1))


def plain_f(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], void: NDArray[np.float64]
) -> float:
    void_pixels = void.astype(bool)
    radius = boundary_radius((truth.shape[0], truth.shape[1]))
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    element = (x * x + y * y <= radius * radius).astype(np.uint8)
    outlines = [plain_boundary(mask * ~void_pixels) for mask in (predicted, truth)]
    near = [cv2.dilate(outline.astype(np.uint8), element) for outline in outlines]
    matched = outlines[0] * near[1], outlines[1] * near[0]
    lengths = [np.sum(outline) for outline in outlines]
    if not all(lengths):
        return float(not any(lengths))
    precision, recall = (np.sum(m) / n for m, n in zip(matched, lengths, strict=True))
    total = precision + recall
    return float(2 * precision * recall / total) if total else 0.0


def plain_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    right, lower, diagonal = np.zeros_like(mask), np.zeros_like(mask), np.zeros_like(mask)
    right[:, :-1], lower[:-1], diagonal[:-1, :-1] = mask[:, 1:], mask[1:], mask[1:, 1:]
    edges = (mask ^ right) | (mask ^ lower) | (mask ^ diagonal)
    edges[-1] = mask[-1] ^ right[-1]
    edges[:, -1] = mask[:, -1] ^ lower[:, -1]
    edges[-1, -1] = False
    return edges


@app.command()
def temporal(
    sprites: Annotated[Path, typer.Argument(help="The folder that tools/get_sprites.py makes.")],
    clips: int = 60,
    frames: int = 48,
    size: tuple[int, int] = (240, 432),
    preset: str = "tiny",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    variant: Annotated[list[str], typer.Option(help="Only these; all, if not given.")] = [],  # noqa: B006
    first_seed: int = 3_000_000,
    workers: int = 2,
) -> None:
    """What the temporal module is worth on drawn clips, and each of its parts."""
    import temporal_bench

    tasks = [(first_seed + k, frames, size) for k in range(clips)]
    typer.echo(temporal_bench.HEAD)
    for name, overrides in temporal_bench.VARIANTS.items():
        if not variant or name in variant:
            outcomes = temporal_bench.measure_variant(
                sprites, preset, [*settings, *overrides], tasks, workers
            )
            typer.echo(temporal_bench.row(name, outcomes))


@app.command()
def real(
    data: Annotated[Path, typer.Argument(help="A DAVIS tree: JPEGImages/480p, Annotations/480p.")],
    videos: Annotated[list[str], typer.Option("--video", help="Only these.")] = [],  # noqa: B006
    preset: Annotated[str, typer.Option(help="Its networks are simulated.")] = "default",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    variant: Annotated[list[str], typer.Option(help="Only these; all, if not given.")] = [],  # noqa: B006
    level: Annotated[list[str], typer.Option(help="Of noise.")] = ["mild", "strong"],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="Of noise; the mean counts.")] = [1, 2],  # noqa: B006
    by_video: Annotated[bool, typer.Option("--by-video", help="J&F of each video, too.")] = False,
    frames_per_second: Annotated[
        bool, typer.Option(help="Time `offline` instead, without the networks.")
    ] = False,
    objects: Annotated[list[int], typer.Option(help="Things in each video, if timed.")] = [1, 3],  # noqa: B006
    repeats: Annotated[int, typer.Option(help="Timed runs; the fastest counts.")] = 3,
    workers: int = 2,
) -> None:
    """What the temporal module is worth on real motion; CLIP is simulated, no weights are read."""
    import real_bench

    names = videos or sorted(path.name for path in (data / "Annotations" / "480p").iterdir())
    variants = tuple(
        (name, (*settings, *overrides))
        for name, overrides in real_bench.VARIANTS.items()
        if not variant or name in variant
    )
    if frames_per_second:
        import frame_bench

        config = load_config(preset, settings)
        for name, count in itertools.product(names, objects):
            clip = frame_bench.with_copies(real_bench.read_clip(data, name), count)
            speed = frame_bench.measure(clip, config, level[0], seed[0], repeats)
            typer.echo(frame_bench.row(name, count, speed))
        return
    tasks = [
        real_bench.Task(data, name, preset, variants, tuple(level), tuple(seed)) for name in names
    ]
    outcomes = real_bench.measure_all(tasks, workers)
    typer.echo("\n".join([real_bench.HEAD, *real_bench.rows(outcomes)]))
    if by_video:
        typer.echo("\n".join(["", *real_bench.video_rows(outcomes)]))


@app.command()
def carry(
    data: Annotated[Path, typer.Argument(help="A DAVIS tree: JPEGImages/480p, Annotations/480p.")],
    videos: Annotated[list[str], typer.Argument(help="Videos in it.")],
    preset: str = "default",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
) -> None:
    """The truth of the first frame, carried by the temporal module alone; no CLIP."""
    import temporal_bench

    config = load_config(preset, settings).temporal
    typer.echo("| video | J | F | J&F |\n|-|-|-|-|")
    for video in videos:
        j, f = (100 * value for value in temporal_bench.carry_truth(data, video, config))
        typer.echo(f"| {video} | {j:.1f} | {f:.1f} | {(j + f) / 2:.1f} |")


@app.command()
def cuts(
    data: Annotated[Path, typer.Argument(help="JPEGImages/480p is there; no clip has a cut.")],
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    seed: int = 0,
) -> None:
    """Count what is taken for a cut: pairs of frames, joins of two clips, dissolves."""
    import cuts_bench

    failed = False
    typer.echo(cuts_bench.HEAD)
    for tally in cuts_bench.measure(data, load_config("default", settings).temporal, seed):
        typer.echo(tally)
        failed |= tally.right < tally.cases
    if failed:
        raise typer.Exit(1)


@app.command()
def twins(
    sprites: Annotated[Path, typer.Argument(help="The folder that tools/get_sprites.py makes.")],
    clips: Annotated[int, typer.Option(help="Clips of each kind.")] = 15,
    preset: str = "tiny",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    first_seed: int = 4_000_000,
    workers: int = 2,
    words: Annotated[
        bool, typer.Option("--words", help="Instead: a place said in other words, or in vain.")
    ] = False,
) -> None:
    """Look-alikes told apart by place or motion, with the parser of expressions and without."""
    import twins_bench

    if words:
        found = twins_bench.measure_wordings(sprites, preset, settings, clips, first_seed, workers)
        typer.echo("| words, or kind of clip | right |\n|-|-|")
        for name, share in found.items():
            typer.echo(f"| {name} | {share:.0%} |")
        return
    typer.echo(twins_bench.HEAD)
    for name, overrides in twins_bench.VARIANTS.items():
        shares = twins_bench.measure_variant(
            sprites, preset, [*settings, *overrides], clips, first_seed, workers
        )
        typer.echo(twins_bench.row(name, shares))


@app.command()
def clicks(
    real: Annotated[Path | None, typer.Option(help="A DAVIS tree; CLIP is simulated.")] = None,
    drawn: Annotated[Path | None, typer.Option(help="What tools/get_sprites.py made.")] = None,
    level: Annotated[str, typer.Option(help="Of noise, of real motion.")] = "strong",
    seed: Annotated[int, typer.Option(help="Of noise, of real motion.")] = 3,
    first_seed: Annotated[int, typer.Option(help="Of drawn clips.")] = 6_000_000,
    clips: Annotated[int, typer.Option(help="Drawn clips of each kind.")] = 30,
    number: Annotated[int, typer.Option(help="Clicks on real motion.")] = 3,
    each: Annotated[bool, typer.Option("--each", help="A line for each object, too.")] = False,
    speed: Annotated[Path | None, typer.Option(help="A folder of JPEGs: time, of a run's.")] = None,
    workers: int = 2,
) -> None:
    """Simulated clicks on the worst frames: clips that carvid has wrong, and real motion."""
    import clicks_bench

    if speed is not None:
        import clicks_speed

        for line in clicks_speed.measure(speed, "default", []):
            typer.echo(line)
    if real is not None:
        found = clicks_bench.measure_real(real, "default", level, seed, number, workers)
        typer.echo("\n".join(clicks_bench.real_rows(found, each=each)))
    if drawn is not None:
        found = clicks_bench.measure_drawn(drawn, "tiny", first_seed, clips, 1, workers)
        typer.echo("\n".join(clicks_bench.drawn_rows(found)))


@app.command()
def instances(
    sprites: Annotated[
        Path | None, typer.Option(help="The folder that tools/get_sprites.py makes: drawn clips.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Drawn clips, the kinds in turn.")] = 30,
    first_seed: int = 8_000_000,
    preset: Annotated[str, typer.Option(help="Of the drawn clips.")] = "tiny",
    data: Annotated[
        Path | None, typer.Option(help="A DAVIS tree, whose CLIP is simulated.")
    ] = None,
    video: str = "dogs-jump",
    objects: Annotated[list[int], typer.Option(help="What the expression names.")] = [1, 2],  # noqa: B006
    copies: Annotated[int, typer.Option(help="Paste so many copies of object 1 first.")] = 0,
    level: Annotated[list[str], typer.Option(help="Of noise.")] = ["mild", "strong"],  # noqa: B006
    seed: Annotated[list[int], typer.Option(help="Of noise.")] = [3, 4, 5],  # noqa: B006
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    workers: int = 2,
) -> None:
    """Are there as many things of a kind as there should be, and do they keep their labels? In
    drawn clips, in a video whose CLIP is simulated, or in both."""
    import instances_bench

    for line in instances_bench.table(
        instances_bench.Asked(
            sprites, clips, first_seed, preset, data, video, tuple(objects), copies, tuple(level),
            tuple(seed), tuple(settings),
        ),
        workers,
    ):  # fmt: skip
        typer.echo(line)


@app.command()
def speed(
    data: Annotated[Path, typer.Argument(help="A folder of JPEGs, the frames of a clip.")],
    preset: Annotated[str, typer.Option(help="Its networks get random weights.")] = "default",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = SIZE_WH[::-1],
    n: Annotated[list[int], typer.Option("-n", help="Numbers of expressions.")] = [1, 3, 5],  # noqa: B006
    t: Annotated[int, typer.Option("-t", help="Frames; 1 is an image, more a clip.")] = 1,
    survive: Annotated[
        str, typer.Option(help="`all` expressions stay, or the best `one`.")
    ] = "all",
    crf: Annotated[bool, typer.Option("--crf/--no-crf")] = True,
    runs: Annotated[int, typer.Option(help="Runs; medians count.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch; 0 leaves it its own choice.")] = 0,
    baseline: Annotated[str, typer.Option(help="`released`: its pattern of calls too.")] = "",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Time one image, or a clip, by stage, and its bare network passes (the floor), in one run."""
    import speed_bench
    import torch

    if baseline not in ("", "released"):
        raise typer.BadParameter(f"no baseline '{baseline}'; there is 'released'")
    if survive not in ("all", "one"):
        raise typer.BadParameter(f"'{survive}' cannot survive; choose 'all' or 'one'")
    if threads:
        torch.set_num_threads(threads)
    config = load_config(preset, settings)
    if baseline and config.weights.dtype not in ("auto", "float32"):
        raise typer.BadParameter("the released pattern is compared in float32 alone")
    model = speed_bench.random_model(config)
    images = speed_bench.read_images(data, runs if t == 1 else t, size)
    measure = speed_bench.measure_image if t == 1 else speed_bench.measure_clip
    if not as_json:
        typer.echo(speed_bench.HEAD)
    for count in n:
        case = speed_bench.Case(size, count, survive, crf, runs, baseline == "released")
        result = {"preset": preset, **measure(model, images, case)}
        typer.echo(json.dumps(result) if as_json else speed_bench.row(preset, result))
        if not as_json:
            typer.echo(speed_bench.split(result), err=True)


@app.command()
def bfloat16(
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (480, 864),
    n: Annotated[int, typer.Option("-n", help="Expressions, and views.")] = 3,
    runs: Annotated[int, typer.Option(help="Of each precision, in turn; medians count.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 1,
) -> None:
    """Time the network passes of a key frame in float32 and in bfloat16, in full-size networks of
    random weights: B/16 sees the image and makes CAMs, L/14 sees the views."""
    import bfloat16_bench

    typer.echo("\n".join(bfloat16_bench.table(size, n, runs, threads)))


@app.command()
def classes(
    n: Annotated[list[int], typer.Option("-n", help="Classes.")] = [1, 20, 80],  # noqa: B006
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (375, 500),
    preset: str = "voc",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    method: Annotated[list[str], typer.Option(help="gradcam, dense.")] = ["gradcam", "dense"],  # noqa: B006
    runs: Annotated[int, typer.Option(help="Of each; the median is told.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
) -> None:
    """What proposals of so many classes cost on an image before pruning, by each method, the image
    included and without it, in full-size networks of random weights."""
    import speed_bench

    changes = {name: (*settings, f"proposals.method={name}") for name in method}
    for line in speed_bench.measure_classes(n, size, preset, changes, runs, threads):
        typer.echo(json.dumps(line))


@app.command()
def index(
    frames: Annotated[Path, typer.Argument(help="A folder of JPEGs, the frames of a clip.")],
    seconds: Annotated[float, typer.Option(help="Length of the clip that is made of them.")] = 10,
    preset: Annotated[str, typer.Option(help="Its networks get random weights.")] = "default",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
) -> None:
    """The size of a clip's index, and what a further expression costs, in full-size networks of
    random weights."""
    import index_bench
    import torch

    torch.set_num_threads(threads)
    for line in index_bench.measure(frames, seconds, preset, settings):
        typer.echo(line)


@app.command()
def cluster(
    clips: Annotated[int, typer.Option(help="Clips that are nothing but a wait.")] = 5000,
    clip_ms: Annotated[float, typer.Option(help="How long each takes.")] = 20.0,
    nodes: Annotated[int, typer.Option(help="Nodes on this machine, beside the head.")] = 2,
    cpus: Annotated[int, typer.Option(help="Workers on each.")] = 2,
    killed: Annotated[int, typer.Option(help="Real clips, of which a node is killed.")] = 40,
) -> None:
    """What scheduling clips costs, and the driver's memory; and whether a node that is killed in
    the middle costs anything: exit 1 if scheduling takes above 10 %, or files differ."""
    import cluster_bench
    import torch

    torch.set_num_threads(1)
    lost, share = False, 0.0
    if clips:
        for line in cluster_bench.scheduling(clips, clip_ms / 1000, nodes, cpus):
            share = line["share"]
            typer.echo(json.dumps(line))
    if killed:
        for line in cluster_bench.killing(killed, nodes + 1):
            lost |= not line["same_bytes"] or line["done"] != killed
            typer.echo(json.dumps(line))
    if lost or share > 0.1:
        raise typer.Exit(1)


@app.command()
def worker(
    frames: Annotated[
        Path | None, typer.Argument(help="A folder of JPEGs; without it the example clip.")
    ] = None,
    clips: Annotated[int, typer.Option(help="How many, one after the other.")] = 2,
    length: Annotated[int, typer.Option(help="Frames of each.")] = 40,
    preset: Annotated[str, typer.Option(help="Of FRAMES with random weights.")] = "tiny",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    texts: Annotated[int, typer.Option("-n", help="Expressions.")] = 3,
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
) -> None:
    """How long a worker takes for a clip, and how much memory it needs."""
    import cluster_bench
    import torch

    torch.set_num_threads(threads)
    asked = ["the dog", "a red ball", "the tree on the left", "a car", "grass"][:texts]
    for line in cluster_bench.sizes(frames, clips, length, preset, settings, asked):
        typer.echo(json.dumps(line))


@app.command()
def busy(
    rounds: Annotated[int, typer.Option(help="Runs of each kind, in turn; medians count.")] = 3,
    spinning: Annotated[
        bool, typer.Option(help="Also with threads that spin, as OpenMP has them by itself.")
    ] = False,
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Time `carvid run` on the example clip on a machine that is idle, has a busy core beside it,
    or does two runs at once; exit 1 if these take too long or masks differ. Nothing else may run
    on the machine."""
    import busy_bench

    lines, same = busy_bench.compare(settings, rounds, spinning=spinning)
    if not as_json:
        typer.echo(busy_bench.HEAD)
    for line in lines:
        typer.echo(json.dumps(line) if as_json else busy_bench.row(line))
    typer.echo(f"masks are the same bytes: {'yes' if same else 'NO'}", err=True)
    if not same or busy_bench.too_long(lines):
        raise typer.Exit(1)


@app.command()
def seek(
    seconds: Annotated[int, typer.Option(help="Length of the clips.")] = 600,
    part: Annotated[float, typer.Option(help="Seconds that are read.")] = 10.0,
    repeats: Annotated[int, typer.Option(help="Runs; the fastest counts.")] = 3,
) -> None:
    """Time the reading of a part at 90 % of a drawn clip, against one at its beginning."""
    import seek_bench

    with tempfile.TemporaryDirectory() as folder:
        for line in seek_bench.measure(Path(folder), seconds, part, repeats):
            print(
                f"{line['clip']}: {line['at 0']:.2f} s at 0, {line['at 90 %']:.2f} s at 90 %, "
                f"{line['ratio']:.2f} times"
            )


@app.command()
def memory(
    frames: int = 10_000,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (64, 96),
    marks: Annotated[list[int], typer.Option("--at", help="Look after so many frames.")] = [  # noqa: B006
        200,
        1000,
        5000,
        10_000,
    ],
    preset: str = "tiny",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
) -> None:
    """Resident memory while a drawn clip is read, segmented, drawn over and written."""
    import memory_bench

    with tempfile.TemporaryDirectory() as folder:
        clip, out = Path(folder) / "clip.mp4", Path(folder) / "out.mp4"
        memory_bench.write_clip(clip, frames, size)
        for line in memory_bench.stream_clip(clip, out, preset, settings, tuple(marks)):
            typer.echo(json.dumps(line))


@app.command()
def large(
    frames: int = 6,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (2160, 3840),
    max_side: Annotated[int, typer.Option(help="Frames are scaled down to it.")] = 640,
    preset: str = "tiny",
) -> None:
    """Time and largest memory of a run on a drawn clip of large frames."""
    import memory_bench

    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        memory_bench.write_clip(clip, frames, size)
        line = memory_bench.run_large(clip, Path(folder) / "out", preset, max_side)
        typer.echo(json.dumps(line))


@app.command()
def hd(
    frames: Annotated[int, typer.Option(help="Of each clip; every second is a key frame.")] = 6,
    size: Annotated[list[str], typer.Option(help="480p, 1080p, 4K.")] = ["480p", "4K"],  # noqa: B006
    n: Annotated[int, typer.Option("-n", help="Expressions, up to 5.")] = 3,
    preset: str = "default",
    settings: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    threads: Annotated[int, typer.Option(help="Of torch.")] = 2,
) -> None:
    """What CLIP sees of the prompts at each size, and time and memory of full-size networks."""
    import hd_bench

    for view, changes in hd_bench.prompt_changes(preset, settings).items():
        typer.echo(json.dumps({"view": view, "prompts_change": changes}))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for name in size:
            clip = Path(folder) / f"{name}.mp4"
            with ProcessPoolExecutor(1, context) as alone:  # what it leaves in memory goes with it
                alone.submit(hd_bench.write_clip, clip, frames, hd_bench.SIZES_HW[name]).result()
            with ProcessPoolExecutor(1, context) as alone:
                run = alone.submit(hd_bench.run_clip, clip, name, preset, settings, n, threads)
                typer.echo(json.dumps(run.result()))


@app.command()
def edges(
    sprites: Annotated[Path, typer.Argument(help="The folder that tools/get_sprites.py makes.")],
    clips: int = 3,
    frames: int = 17,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width.")] = (1080, 1920),
    first_seed: int = 5_000_000,
) -> None:
    """How well the edges of masks fit at key frames and between them, where the thing is found."""
    import hd_bench

    found = [
        each for k in range(clips) for each in hd_bench.edges(sprites, first_seed + k, frames, size)
    ]
    for key in (True, False):
        mine = [each for each in found if each["key"] == key]
        means = {k: round(float(np.mean([each[k] for each in mine])), 3) for k in ("f", "linear_f")}
        typer.echo(json.dumps({"key_frames": key, "masks": len(mine), **means}))


if __name__ == "__main__":
    with sleeping_threads():  # as in the command line
        app()
