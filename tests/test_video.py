"""One contract for all readers, the writer, and every bad input."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.errors import OutputError, VideoError
from carvid.video import VideoWriter, natural_key, open_video, prefetch
from tests.conftest import make_frames

RATES = [Fraction(25), Fraction(30000, 1001)]
SIZES = [(34, 48), (33, 47)]


def write_clip(path: Path, frames: NDArray[np.uint8], rate: Fraction, codec: str) -> None:
    """Write frames; `libx264rgb` and `ffv1` lose nothing."""
    pixel_format = {"libx264rgb": "rgb24", "ffv1": "bgr0", "libx264": "yuv420p"}[codec]
    # Reordered frames bring an edit list, which is not for decord.
    options = {"libx264rgb": {"crf": "0"}, "libx264": {"bf": "0"}}.get(codec, {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())


def write_folder(folder: Path, frames: NDArray[np.uint8]) -> None:
    folder.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"frame{t}.png")  # natural order: 9 before 10
    (folder / "notes.txt").write_text("not an image")


def decode(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize(
    ("kind", "size_hw"),
    [
        ("folder", (34, 48)), ("folder", (33, 47)), ("libx264rgb", (34, 48)),
        ("libx264rgb", (33, 47)), ("ffv1", (34, 48)), ("ffv1", (33, 47)), ("libx264", (48, 64)),
    ],
)  # fmt: skip
def test_every_reader_keeps_the_contract(
    tmp_path: Path, kind: str, size_hw: tuple[int, int], rate: Fraction
) -> None:
    frames = make_frames(12, *size_hw)
    wanted: Sequence[NDArray[np.uint8]] = list(frames)
    source = tmp_path / (
        "frames" if kind == "folder" else "clip.mkv" if kind == "ffv1" else "clip.mp4"
    )
    if kind == "folder":
        write_folder(source, frames)
    else:
        write_clip(source, frames, rate, kind)
    if kind == "libx264":  # lossy: what counts is another decoder's picture
        wanted = decode(source)
    with open_video(source, frame_rate=rate) as reader:
        backends = {"folder": "images", "libx264": "decord"}
        assert reader.info.backend == backends.get(kind, "pyav")
        assert reader.info.size_hw == size_hw
        assert reader.info.frame_rate == rate
        assert reader.info.frame_count in (12, None)
        read = list(reader)
        assert [frame.index for frame in read] == list(range(12))
        for frame, image in zip(read, wanted, strict=True):
            assert frame.image.dtype == np.uint8
            assert (frame.image == image).all()
            # Matroska counts milliseconds.
            assert frame.time_s == pytest.approx(float(frame.index / rate), abs=6e-4)
        tail = list(reader.frames(start=7))
        assert [frame.index for frame in tail] == [7, 8, 9, 10, 11]
        assert (tail[0].image == wanted[7]).all()
        reader.close()
        reader.close()


def test_auto_does_not_trust_decord_blindly(tmp_path: Path) -> None:
    """At this size decord returns four channels."""
    write_clip(tmp_path / "small.mp4", make_frames(3), Fraction(25), "libx264")
    with open_video(tmp_path / "small.mp4") as reader:
        assert [f.image.shape for f in reader] == [(34, 48, 3)] * 3


def test_one_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(make_frames(1)[0]).save(tmp_path / "one.png")
    (frame,) = open_video(tmp_path / "one.png")
    assert (frame.image == make_frames(1)[0]).all()


def test_real_clip_is_the_same_through_both_backends(shared: Path) -> None:
    path = shared / "data" / "clips" / "dogs-jump.mp4"
    one, other = (list(open_video(path, backend=b)) for b in ("decord", "pyav"))
    assert len(one) == len(other) == 66
    assert all((a.image == b.image).all() for a, b in zip(one, other, strict=True))


def test_natural_order() -> None:
    names = ["frame10.png", "frame9.png", "frame1.png", "a.png"]
    assert sorted(names, key=natural_key) == ["a.png", "frame1.png", "frame9.png", "frame10.png"]


def test_bad_inputs_are_named(tmp_path: Path) -> None:
    empty, text, folder = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "folder"
    empty.touch()
    text.write_text("this is no video, however it is called\n" * 50)
    folder.mkdir()
    for path, message in [
        (tmp_path / "none.mp4", "no file or folder"),
        (empty, "is empty"),
        (text, "cannot read"),
        (folder, "holds no images"),
    ]:
        with pytest.raises(VideoError, match=message) as error:
            open_video(path)
        assert "\n" not in str(error.value) and "; " in str(error.value)
    Image.fromarray(make_frames(1)[0]).save(folder / "1.png")
    Image.fromarray(make_frames(1, 20, 20)[0]).save(folder / "2.png")
    with pytest.raises(VideoError, match=r"2\.png' is 20×20, the first image 48×34"):
        list(open_video(folder))
    (folder / "1.png").write_bytes(b"broken")
    with pytest.raises(VideoError, match=r"cannot read .*1\.png' as an image"):
        open_video(folder)


def test_audio_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="has no video in it"):
        open_video(path)


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("size_hw", SIZES, ids=str)
def test_writer_makes_what_browsers_play(
    tmp_path: Path, size_hw: tuple[int, int], rate: Fraction
) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, size_hw, rate) as writer:
        for frame in make_frames(7, *size_hw):
            writer.write(frame)
        assert not path.exists()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.pix_fmt == "yuv420p"
        assert stream.average_rate == rate
        assert sum(1 for _ in container.decode(stream)) == 7
        even = tuple(side + side % 2 for side in size_hw)
        assert (stream.height, stream.width) == even
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_writer_leaves_nothing_half_done(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "out.mp4", (34, 48), Fraction(25)) as writer:
            writer.write(make_frames(1)[0])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert not list(tmp_path.iterdir())
    with pytest.raises(OutputError, match="cannot write"):
        VideoWriter(tmp_path / "no" / "folder.mp4", (34, 48), Fraction(25))


def test_writer_checks_frames(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="image must be uint8"),
        VideoWriter(tmp_path / "out.mp4", (34, 48), Fraction(25)) as writer,
    ):
        writer.write(make_frames(1, 20, 20)[0])


def test_prefetch_hands_on_items_and_exceptions() -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise VideoError("the third frame is damaged")

    seen = []
    with pytest.raises(VideoError, match="damaged"):
        for item in prefetch(broken(), depth=1):
            seen.append(item)
    assert seen == [0, 1, 2]


def test_prefetch_ends_its_thread() -> None:
    items = prefetch(iter(range(1000)), depth=2)
    assert next(items) == 0
    items.close()
    assert not [t for t in threading.enumerate() if t.name == "carvid-prefetch"]
