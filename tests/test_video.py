"""One contract for all readers, the writer, and every bad input."""

from __future__ import annotations

import errno
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import OutputError, VideoError
from carvid.base.files import write_text
from carvid.media.encode import Sound, VideoWriter
from carvid.media.open import ALL, Backend, Selection, natural_key, open_video, prefetch
from tests.conftest import make_frames
from tests.odd_files import MAKERS

RATES = [Fraction(25), Fraction(30000, 1001)]
SIZES = [(34, 48), (33, 47)]
BACKENDS: list[Backend] = ["decord", "pyav"]


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


def patch_box(path: Path, name: bytes, offset: int, count: int, values: tuple[int, ...]) -> None:
    """Overwrite big-endian 32-bit numbers `offset` bytes into the first mp4 box of that name."""
    data = bytearray(path.read_bytes())
    struct.pack_into(f">{count}i", data, data.index(name) + offset, *values)
    path.write_bytes(data)


def decode(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize(
    ("kind", "size_hw"),
    [
        ("folder", (34, 48)), ("folder", (33, 47)), ("libx264rgb", (34, 48)),
        ("libx264rgb", (33, 47)), ("ffv1", (34, 48)), ("ffv1", (33, 47)), ("libx264", (48, 96)),
        ("no decord", (48, 96)),
    ],
)  # fmt: skip
def test_every_reader_keeps_the_contract(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    size_hw: tuple[int, int],
    rate: Fraction,
) -> None:
    if kind == "no decord":
        monkeypatch.setitem(sys.modules, "decord", None)
    frames = make_frames(12, *size_hw)
    wanted: Sequence[NDArray[np.uint8]] = list(frames)
    source = tmp_path / (
        "frames" if kind == "folder" else "clip.mkv" if kind == "ffv1" else "clip.mp4"
    )
    if kind == "folder":
        write_folder(source, frames)
    else:
        write_clip(source, frames, rate, "libx264" if kind == "no decord" else kind)
    if kind in ("libx264", "no decord"):  # lossy: what counts is another decoder's picture
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


@pytest.mark.parametrize("width", [24, 48, 72])
def test_auto_does_not_trust_decord_blindly(tmp_path: Path, width: int) -> None:
    """At these widths decord returns four channels."""
    write_clip(tmp_path / "small.mp4", make_frames(3, 34, width), Fraction(25), "libx264")
    with open_video(tmp_path / "small.mp4") as reader:
        assert [f.image.shape for f in reader] == [(34, width, 3)] * 3


def test_rotation_is_applied_by_both_backends(tmp_path: Path) -> None:
    path, quarter = tmp_path / "turned.mp4", np.zeros((96, 128, 3), np.uint8)
    quarter[:48, :64] = (250, 20, 20)
    write_clip(path, np.stack([quarter] * 3), Fraction(25), "libx264")
    patch_box(path, b"tkhd", 44, 9, (0, 1 << 16, 0, -1 << 16, 0, 0, 96 << 16, 0, 1 << 30))
    for backend in BACKENDS:
        with open_video(path, backend=backend) as reader:
            assert reader.info.size_hw == (128, 96)
            image = next(iter(reader)).image
        assert image.shape == (128, 96, 3)
        assert image[8, -8, 0] > 200  # a quarter turn to the right
        assert image[[8, -8, -8], [8, 8, -8]].max() < 60


def test_a_clip_cut_by_an_edit_list_goes_to_pyav(tmp_path: Path) -> None:
    path, frames = tmp_path / "cut.mp4", make_frames(12, 48, 96)
    write_clip(path, frames, Fraction(25), "libx264")
    wanted = decode(path)[4:]
    scale = 12800  # of the track, ticks a second; 4 frames are 4 * 512 ticks
    patch_box(path, b"elst", 16, 1, (4 * scale // 25,))
    with open_video(path) as reader:
        assert reader.info.backend == "pyav"
        read = list(reader)
    assert [frame.index for frame in read] == list(range(8))
    assert read[0].time_s == 0
    assert all((a.image == b).all() for a, b in zip(read, wanted, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_damaged_frame_is_named(tmp_path: Path, backend: Backend) -> None:
    path = tmp_path / "damaged.mp4"
    write_clip(path, make_frames(12, 48, 64), Fraction(25), "libx264")
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][8]
        assert packet.pos is not None
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    reader = open_video(path, backend=backend)
    if backend == "pyav":
        assert len(list(reader)) == 11
        assert reader.lost == ["left out, for they cannot be decoded: 1 frame"]
        return
    with pytest.raises(VideoError, match=r"cannot decode frame \d+ of .*damaged\.mp4") as error:
        list(reader)
    assert "\n" not in str(error.value) and ".cc:" not in str(error.value)


def test_what_decord_cannot_do_is_said(tmp_path: Path) -> None:
    write_clip(tmp_path / "small.mp4", make_frames(3), Fraction(25), "libx264")
    write_clip(tmp_path / "clip.mkv", make_frames(3), Fraction(25), "ffv1")
    for name in ("small.mp4", "clip.mkv"):
        with pytest.raises(VideoError, match=r"decord .*use the backend pyav"):
            list(open_video(tmp_path / name, backend="decord"))


def test_decord_is_asked_for_where_it_does_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", make_frames(3, 48, 96), Fraction(25), "libx264")
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(VideoError, match="decord is not installed; use the backend pyav"):
        open_video(tmp_path / "clip.mp4", backend="decord")


def test_frames_start_at_0_or_later(tmp_path: Path) -> None:
    write_folder(tmp_path / "frames", make_frames(3))
    write_clip(tmp_path / "clip.mp4", make_frames(3, 48, 64), Fraction(25), "libx264")
    for name, backend in [("frames", "auto"), ("clip.mp4", "decord"), ("clip.mp4", "pyav")]:
        reader = open_video(tmp_path / name, backend=cast(Backend, backend))
        assert not list(reader.frames(3))
        with pytest.raises(ValueError, match="start must be 0 or more, got -1"):
            list(reader.frames(-1))


def test_images_are_read_as_shown(tmp_path: Path) -> None:
    image = make_frames(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    (frame,) = open_video(tmp_path / "turned.png")
    assert (frame.image == np.rot90(image, -1)).all()
    grey = image[..., 0].astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    (frame,) = open_video(tmp_path / "deep.png")
    assert (frame.image == image[..., :1]).all()


def test_one_image_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(make_frames(1)[0]).save(tmp_path / "one.png")
    (frame,) = open_video(tmp_path / "one.png")
    assert (frame.image == make_frames(1)[0]).all()


def test_real_clip_is_the_same_through_both_backends(shared: Path) -> None:
    path = shared / "data" / "clips" / "dogs-jump.mp4"
    one, other = (list(open_video(path, backend=b)) for b in BACKENDS)
    assert len(one) == len(other) == 66
    assert all((a.image == b.image).all() for a, b in zip(one, other, strict=True))


def test_natural_order() -> None:
    names = ["frame10.png", "frame9.png", "frame1.png", "a.png"]
    assert sorted(names, key=natural_key) == ["a.png", "frame1.png", "frame9.png", "frame10.png"]


@pytest.mark.parametrize(
    "names",
    [
        ["2.png", "10²3.png", "11.png"],  # a digit that is no number: int("²") fails
        ["²3.png", "3.png"],
        ["٣.png", "4.png"],  # a three
        ["shot.999.png", "shot.1001.png"],
        ["Frame1.png", "frame2.png", "FRAME3.PNG"],
        ["frame01.png", "frame1.png", "frame02.png"],
        ["frame1.png", "frame.png"],
    ],
)
def test_natural_order_of_odd_names(names: list[str]) -> None:
    for given in (names, names[::-1]):
        assert sorted(given, key=natural_key) == names


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


def test_writer_keeps_colors(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (255, 94, 58), (40, 160, 255)
    with VideoWriter(tmp_path / "out.mp4", (48, 64), Fraction(25)) as writer:
        writer.write(image)
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace == frame.color_primaries == frame.color_trc == 1  # BT.709
    (read,) = open_video(tmp_path / "out.mp4")
    for x in (16, 48):
        assert np.abs(read.image[24, x].astype(int) - image[24, x]).max() <= 3


def test_a_writer_without_frames_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="no frame was written"),
        VideoWriter(tmp_path / "out.mp4", (34, 48), Fraction(25)),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_writer_closes_twice(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", (34, 48), Fraction(25))
    writer.write(make_frames(1)[0])
    writer.close()
    writer.close()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_a_full_disk_is_one_readable_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # limits the size of files as a disk would
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    noise = np.random.default_rng(0).integers(0, 255, (240, 432, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with (
            pytest.raises(OutputError, match=r"cannot write .*free some space"),
            VideoWriter(tmp_path / "out.mp4", (240, 432), Fraction(25)) as writer,
        ):
            for shift in range(60):
                writer.write(np.roll(noise, 7 * shift, axis=0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def write_with_sound(path: Path, codec: str, rate: Fraction) -> None:
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=rate)
        picture.height, picture.width, picture.pix_fmt = 48, 64, "yuv420p"
        sound = container.add_stream(codec, rate=48000, layout="mono")
        for frame in make_frames(12, 48, 64):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(picture.encode())
        tone = np.sin(np.arange(1024) / 9).astype(np.float32)[None] / 3
        for block in range(20):
            samples, form = (tone, "fltp") if codec == "aac" else (np.int16(tone * 9000), "s16")
            made = av.AudioFrame.from_ndarray(samples, form, "mono")
            made.sample_rate, made.pts = 48000, 1024 * block
            container.mux(sound.encode(made))
        container.mux(sound.encode())


def sound_packets(path: Path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
        return [(float((p.pts or 0) * p.time_base), bytes(p)) for p in packets]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_sound_is_copied_bit_for_bit(tmp_path: Path, name: str) -> None:
    rate = Fraction(30000, 1001)
    source, out = tmp_path / name, tmp_path / "out.mp4"
    write_with_sound(source, "aac", rate)
    with VideoWriter(out, (48, 64), rate, sound=Sound(source)) as writer:
        for frame in make_frames(12, 48, 64):
            writer.write(frame)
    wanted, copied = sound_packets(source), sound_packets(out)
    assert [data for _, data in copied] == [data for _, data in wanted]
    # Matroska counts milliseconds.
    assert [time for time, _ in copied] == pytest.approx([time for time, _ in wanted], abs=1e-3)
    with open_video(out) as reader:
        assert reader.info.frame_rate == rate
        assert len(list(reader)) == 12


def test_a_file_system_that_went_read_only_is_one_readable_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There not even what does not exist can be removed."""

    def refuse(path: Path, *_: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    for change in ("touch", "unlink", "write_text"):
        monkeypatch.setattr(Path, change, refuse)
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4': Read-only file system"):
        VideoWriter(tmp_path / "a.mp4", (34, 48), Fraction(25))
    with pytest.raises(OutputError, match=r"cannot write .*a\.csv': Read-only file system"):
        write_text(tmp_path / "a.csv", "1")


@pytest.mark.parametrize("name", ["a", "a.avi", "a.mkv", "a.mp4.webm"])
def test_videos_are_mp4(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match=f"{name}': a video's name must end in .mp4 or"):
        VideoWriter(tmp_path / name, (34, 48), Fraction(25))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["h264", "h264_reordered", "ffv1_mkv", "mpeg2_ts", "one_image"])
def test_a_reader_tells_how_many_frames_to_expect(tmp_path: Path, kind: str) -> None:
    """For progress bars: also where the count is not exact."""
    path = MAKERS[kind](tmp_path)
    for part in (ALL, Selection(stride=5), Selection(start_s=0, end_s=0.4, stride=2)):
        with open_video(path, selection=part) as reader:
            assert reader.expected == len(list(reader))


def test_sound_that_fits_no_mp4_is_left_out(tmp_path: Path) -> None:
    write_with_sound(tmp_path / "pcm.mov", "pcm_s16le", Fraction(25))
    write_folder(tmp_path / "frames", make_frames(3))
    for source in ("pcm.mov", "frames", "none.mp4"):
        out = tmp_path / "out.mp4"
        with VideoWriter(out, (34, 48), Fraction(25), sound=Sound(tmp_path / source)) as writer:
            writer.write(make_frames(1)[0])
        with av.open(str(out)) as container:
            assert [stream.type for stream in container.streams] == ["video"]


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


def test_prefetch_closes_what_it_reads() -> None:
    closed_in: list[str] = []

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed_in.append(threading.current_thread().name)

    items = prefetch(source(), depth=2)
    assert next(items) == 0
    items.close()
    assert closed_in == ["carvid-prefetch"]
