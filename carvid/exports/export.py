"""What other tools want of a run: COCO, videos with alpha or green ground, cut-outs, a web page."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from carvid.base.errors import ConfigError, OutputError, suggest
from carvid.base.files import cannot_write, make_folder, replacing, write_text
from carvid.base.guard import check_apart
from carvid.base.interrupt import never, stopping
from carvid.base.masks import box_of
from carvid.media.encode import BT709
from carvid.media.label_png import MAX_LABEL
from carvid.media.open import Frame, VideoInfo, open_video
from carvid.run.layout import CUTOUT_FOLDER, MASK_NAME, RUN_CONTENTS
from carvid.run.lock import locked
from carvid.show.overlay import overlay_writer
from carvid.show.page import write_page

if TYPE_CHECKING:
    import supervision

    from carvid.run.track import Track

GREEN = (0, 177, 64)
"""The green of chroma keying, RGB."""
PRORES_4444 = {"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}
"""Its alpha is coded without loss."""
DAVIS, COCO = "davis", "coco"
"""The formats that show no frames, and so can be had of a live input."""
NO_IMAGE = np.zeros((0, 0, 3), np.uint8)

Writer = Callable[["Track", Path, Iterable[Frame]], None]


def export(
    track: Track, folder: str | Path, formats: Sequence[str], *, progress: bool = False
) -> None:
    """Write a run's masks in further formats into a folder.

    Args:
        track: what `Carvid.segment` or `Track.open` gave.
        folder: where to; beside masks/ it is the run's own folder.
        formats: names of `FORMATS`; `davis` is masks/, which every run has.
        progress: show a bar for each format on stderr.

    Raises:
        ConfigError: an unknown format.
        OutputError: a place cannot be written, or is one of what is read, a run is writing to it,
            or the input came only once.
        VideoError: the video is no longer there.
    """
    check_formats(formats, track.facts.video)
    with locked(Path(folder)):
        write_formats(track, Path(folder), formats, progress=progress)


def write_formats(
    track: Track,
    folder: Path,
    formats: Sequence[str],
    *,
    progress: bool = False,
    stop: Callable[[], bool] = never,
) -> None:
    """Do as `export`, in a folder that the caller has locked.

    Raises:
        KeyboardInterrupt: `stop`, which is asked after each frame, said so.
        CarvidError: as `export`.
    """
    wanted = [name for name in dict.fromkeys(formats) if name != DAVIS]
    check_apart(
        track.files(), [folder / FILES[name] for name in wanted],
        remedy="export to another folder",
    )  # fmt: skip
    for name in wanted:
        with closing(_frames(track, name)) as frames, tqdm(
            stopping(frames, stop), total=len(track), desc=name, unit="frame", disable=not progress
        ) as bar:  # fmt: skip
            FORMATS[name](track, folder, bar)


def check_formats(names: Iterable[str], video: VideoInfo | None = None) -> None:
    """Say early that a format is unknown, needs a package that is not there, or cannot be had of
    a video.

    Raises:
        ConfigError: the name is none of `FORMATS`, or a package is missing.
        OutputError: the video is live, and the format shows its frames.
    """
    for name in names:
        if name != DAVIS and name not in FORMATS:
            raise ConfigError(f"unknown format '{name}'{suggest(name, [DAVIS, *FORMATS])}")
        if name == COCO:
            _mask_tools()
        elif name != DAVIS and video is not None and video.live:
            raise OutputError(
                f"'{video.path}' comes only once, and format {name} needs its frames again; "
                f"{COCO} and {DAVIS} do without"
            )


def detections(track: Track, index: int) -> supervision.Detections:
    """Return what a track has in frame `index` as `supervision.Detections`.

    `class_id` is the label, from 1; so is `tracker_id`; `data["class_name"]` is the expression.

    Raises:
        ConfigError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError:
        raise ConfigError("supervision is not installed; pip install supervision") from None
    masks = track.masks[index]
    found = np.flatnonzero(masks.any(axis=(1, 2)))
    boxes = [_box(masks[k]) for k in found]
    corners = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    return supervision.Detections(
        xyxy=np.array(corners, np.float32).reshape(-1, 4),
        mask=masks[found],
        confidence=track.scores[index][found].astype(np.float32),
        class_id=found + 1,
        tracker_id=found + 1,
        data={"class_name": np.array([track.texts[k] for k in found], dtype=object)},
    )


def _frames(track: Track, name: str) -> Generator[Frame, None, None]:
    """The frames that a track was made from; without their images for `COCO`."""
    video = track.facts.video
    if name == COCO:
        for index, time_s in enumerate(track.times_s):
            yield Frame(index, float(time_s), NO_IMAGE)
        return
    with open_video(video.path, frame_rate=video.frame_rate, selection=video.selection) as reader:
        count = 0
        for frame in reader:
            count += 1
            if count > len(track):
                break
            yield frame
    if count != len(track):
        raise OutputError(
            f"'{video.path}' has another number of frames than the {len(track)} masks; give the "
            "video of this run"
        )


def _write_coco(track: Track, folder: Path, frames: Iterable[Frame]) -> None:
    """coco.json: an image for each frame, an annotation for each mask, label k as track k."""
    tools = _mask_tools()
    height, width = track.facts.video.size_hw
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for frame in frames:
        index = frame.index
        images.append({
            "id": index + 1, "file_name": MASK_NAME.format(index), "width": width,
            "height": height, "frame_index": index, "time_s": round(frame.time_s, 6),
        })  # fmt: skip
        for k, mask in enumerate(track.masks[index]):
            if not mask.any():
                continue
            code = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
            annotations.append({
                "id": len(annotations) + 1, "image_id": index + 1, "category_id": k + 1,
                "track_id": k + 1, "iscrowd": 0, "area": int(mask.sum()), "bbox": _box(mask),
                "score": round(float(track.scores[index, k]), 6),
                "segmentation": {"size": [height, width], "counts": code["counts"].decode()},
            })  # fmt: skip
    values = {
        "info": {"description": "carvid", "video": track.facts.video.path},
        "images": images,
        "categories": [{"id": k, "name": text} for k, text in enumerate(track.texts, 1)],
        "annotations": annotations,
    }
    write_text(folder / FILES[COCO], json.dumps(values, ensure_ascii=False) + "\n")


def _write_alpha(track: Track, folder: Path, frames: Iterable[Frame]) -> None:
    """alpha.mov: ProRes 4444, opaque where any expression is."""
    video, path = track.facts.video, folder / FILES["alpha"]
    height, width = video.size_hw
    ticks = 90_000
    try:
        with replacing(path) as partial, av.open(str(partial), "w") as out:
            stream: Any = out.add_stream(
                "prores_ks", rate=video.frame_rate / video.selection.stride, options=PRORES_4444
            )
            stream.height, stream.width, stream.pix_fmt = height, width, "yuva444p10le"
            context = stream.codec_context
            stream.time_base = context.time_base = Fraction(1, ticks)
            context.sample_aspect_ratio = video.pixel_aspect
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.thread_count = 1
            first_s = float(track.times_s[0])
            for frame, labels in zip(frames, track.label_maps, strict=True):
                rgba = np.dstack([frame.image, np.where(labels > 0, 255, 0).astype(np.uint8)])
                picture: Any = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgba), "rgba")
                picture = picture.reformat(format="yuva444p10le", dst_colorspace="ITU709")
                picture.time_base = Fraction(1, ticks)
                picture.pts = round((frame.time_s - first_s) * ticks)
                out.mux(stream.encode(picture))
            out.mux(stream.encode())
    except av.FFmpegError as error:
        raise cannot_write(path, str(error.strerror)) from None


def _write_green(track: Track, folder: Path, frames: Iterable[Frame]) -> None:
    """green.mp4: what was found, on green, with the video's times and sound."""
    with overlay_writer(folder / FILES["green"], track.facts.video) as writer:
        for frame, labels in zip(frames, track.label_maps, strict=True):
            shown = np.where(labels[..., None] > 0, frame.image, np.array(GREEN, np.uint8))
            writer.write(shown, frame.time_s)


def _write_cutouts(track: Track, folder: Path, frames: Iterable[Frame]) -> None:
    """cutouts/<label>/%05d.png: RGBA of the frame's size, for each frame and expression; wholly
    transparent where it is not found. Those of an earlier, longer run go."""
    labels = range(1, len(track.texts) + 1)
    places = {label: folder / CUTOUT_FOLDER / str(label) for label in labels}
    for place in places.values():
        make_folder(place)
    written = set()
    for frame, plane in zip(frames, track.label_maps, strict=True):
        for label, place in places.items():
            mask = plane == label
            rgba = np.dstack([frame.image * mask[..., None], np.where(mask, MAX_LABEL, 0)])
            path = place / MASK_NAME.format(frame.index)
            with replacing(path) as partial:
                Image.fromarray(rgba.astype(np.uint8)).save(partial, format="PNG")
            written.add(path)
    for path in set(folder.glob(f"{CUTOUT_FOLDER}/*/*.png")) - written:
        if RUN_CONTENTS.fullmatch(path.relative_to(folder).as_posix()):
            path.unlink()
            with suppress(OSError):  # others of that label are still there
                path.parent.rmdir()


def _write_html(track: Track, folder: Path, frames: Iterable[Frame]) -> None:
    """view.html: frames, masks and scores in one file that needs nothing else."""
    write_page(track, folder / FILES["html"], frames)


FILES = {
    COCO: "coco.json", "alpha": "alpha.mov", "green": "green.mp4", "cutouts": CUTOUT_FOLDER,
    "html": "view.html",
}  # fmt: skip
"""What each format is called in its folder."""
FORMATS: dict[str, Writer] = {
    COCO: _write_coco,
    "alpha": _write_alpha,
    "green": _write_green,
    "cutouts": _write_cutouts,
    "html": _write_html,
}


def _mask_tools() -> Any:
    try:
        from pycocotools import mask
    except ImportError:
        raise ConfigError("format coco needs pycocotools; pip install pycocotools") from None
    return mask


def _box(mask: NDArray[np.bool_]) -> list[int]:
    """x, y, width and height of a mask, pixels."""
    left, top, right, bottom = box_of(mask)
    return [left, top, right - left, bottom - top]
