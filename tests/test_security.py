"""What strangers' files could do: run code, call out, fill the memory, write elsewhere."""

from __future__ import annotations

import base64
import json
import pickle
import random
import re
import shutil
import socket
import struct
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import carvid
from carvid.base import files
from carvid.base.errors import (
    CarvidError,
    ConfigError,
    DatasetError,
    OutputError,
    VideoError,
    WeightsError,
)
from carvid.benchmark.predict import predict
from carvid.car.queries import Queries
from carvid.clip.weights import EMBEDDED_FOLDER, load_backbone
from carvid.config import WeightsConfig, load_config
from carvid.datasets.expressions import read_meta
from carvid.datasets.open import open_dataset
from carvid.exports.export import export
from carvid.media.label_png import read_label_png, write_label_png
from carvid.media.open import open_video
from carvid.pipeline import Carvid
from carvid.run.progress import Progress
from carvid.run.track import Track
from carvid.sam.cache import MaskCache
from carvid.sam.weights import load_sam
from carvid.show.masks_over_video import expressions_beside, selection_beside
from tests.conftest import make_frames
from tests.test_pipeline import FAST, TEXTS

EVIL = "</script><img src=x onerror=alert(1)>"
GIGAPIXEL = 40_000


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture
def model(weights: dict[str, str]) -> Carvid:
    return carvid.load("default", [*FAST, "temporal.lag=0"], **weights)


@pytest.fixture
def out(model: Carvid, clip: Path, tmp_path: Path) -> Path:
    """The folder of a run."""
    model.segment(clip, TEXTS, out=tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def port() -> Iterator[int]:
    """Where somebody listens, and must not be called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server.getsockname()[1]
        with pytest.raises(BlockingIOError):
            server.accept()


def big_png(path: Path, color_type: int, side: int = GIGAPIXEL) -> Path:
    """A small file of side × side pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", side, side, 8, color_type, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if color_type == 3 else b""
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette
        + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # of torch
@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_no_pickle_of_a_file_is_run(tmp_path: Path, save: str) -> None:
    trap = tmp_path / "trap"
    pickle.loads(pickle.dumps(Touch(trap)))
    assert trap.exists()  # it works where it is let
    trap.unlink()
    values = {"image_encoder.pos_embed": Touch(trap)}
    clip = tmp_path / "clip"
    shutil.copytree(EMBEDDED_FOLDER, clip)
    for path in clip.glob("*.safetensors"):
        path.unlink()
    for path in (tmp_path / "sam.pth", clip / "pytorch_model.bin"):
        if save == "torch":
            torch.save(values, path)
        else:
            path.write_bytes(pickle.dumps(values))
    with pytest.raises(WeightsError, match="cannot read"):
        load_sam(str(tmp_path / "sam.pth"), "cpu")
    with pytest.raises(WeightsError, match="cannot load"):
        load_backbone(str(clip), WeightsConfig(device="cpu"))
    cache = MaskCache(tmp_path, {}, ())
    image, masks = make_frames(1)[0], np.zeros((1, 34, 48), bool)
    np.savez(tmp_path / f"{cache._key(image)}.npz", masks=np.array([Touch(trap)], dtype=object))
    assert (cache.get(image, lambda _: masks) == masks).all()
    assert not trap.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    chance, path = random.Random(3), tmp_path / "sam.pth"
    whole = pickle.dumps({"image_encoder.pos_embed": [1, 2.0, "x"] * 20}, protocol=2)
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 10)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        with pytest.raises(WeightsError):
            load_sam(str(path), "cpu")


def test_no_program_is_run_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands EPS to Ghostscript, whatever the file is called."""
    path = tmp_path / "a.png"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n%%EOF\n")

    def run(*_: object, **__: object) -> None:
        raise RuntimeError("a program is run")

    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", run)
    with Image.open(path) as picture, pytest.raises(RuntimeError, match="a program is run"):
        picture.load()  # as Pillow alone would
    with pytest.raises(VideoError, match=r"cannot read .*a\.png' as an image"):
        open_video(path)
    with pytest.raises(DatasetError, match="is no PNG"):
        read_label_png(path)


@pytest.mark.parametrize("side", [9_000, 9_600, GIGAPIXEL])
def test_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    """Below Pillow's limit, where it warns (a warning fails a test), and where it refuses."""
    message = f"frames of {side}×{side} pixels, more than 80 million; scale it down"
    tracemalloc.start()
    try:
        with pytest.raises(VideoError, match=message):
            open_video(big_png(tmp_path / "a.png", 2, side))
        with pytest.raises(DatasetError, match=message):
            read_label_png(big_png(tmp_path / "b.png", 3, side))
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # the host's limit is left


def test_texts_have_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep, big = "[" * 200_000, '"' + "x" * 2_000_000 + '"'
    (tmp_path / "deep.json").write_text(deep)
    (tmp_path / "meta_expressions.json").write_text(deep)
    with pytest.raises(ConfigError, match=r"is no run\.json"):
        load_config(tmp_path / "deep.json")
    with pytest.raises(DatasetError, match="nested too deep"):
        read_meta(tmp_path / "meta_expressions.json")
    (tmp_path / "big.json").write_text(big)
    assert files.read_json(tmp_path / "big.json") == "x" * 2_000_000
    monkeypatch.setattr(files.read_text, "__kwdefaults__", {"limit": 10**6, "encoding": "utf-8"})
    with pytest.raises(ValueError, match="more than 1 MB"):
        files.read_json(tmp_path / "big.json")


def test_settings_do_not_grow_when_they_are_read(tmp_path: Path) -> None:
    """A billion laughs, by repeated values and by merged mappings."""
    path = tmp_path / "a.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    merged = ["a0: &a0 {x: 1}"]
    merged += [f"a{k}: &a{k}\n  <<: [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    for text in ("\n".join([*lines, "car: {theta: *a9}"]), "\n".join([*merged, "car: *a9"])):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"repeats a value by \*name"):
            load_config(path)
    for text in ("[" * 1500, "x" * 100_001, "car: {theta: 2001-99-99}"):
        path.write_text(text)
        with pytest.raises(ConfigError):
            load_config(path)


@pytest.mark.parametrize("name", ["../../evil", "/evil", "..", "a/b", "a\\b", "", "a\0b"])
@pytest.mark.parametrize("place", ["video", "frame", "key"])
def test_a_data_sets_names_lead_nowhere(tmp_path: Path, name: str, place: str) -> None:
    video, frame, key = (name if place == x else "0" for x in ("video", "frame", "key"))
    data = tmp_path / "data"
    for folder in ("JPEGImages/480p/0", "out"):
        (data / folder).mkdir(parents=True)
    Image.fromarray(make_frames(1)[0]).save(data / "JPEGImages" / "480p" / "0" / "0.jpg")
    entry = {"frames": [frame], "expressions": {key: {"exp": "a dog"}}}
    (data / "meta_expressions.json").write_text(json.dumps({"videos": {video: entry}}))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match="and none of a file; rename it"):
        predict(data, data / "out" / "run", "tiny")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_data_sets_numbers_are_bounded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "JPEGImages" / "480p" / "cat").mkdir(parents=True)
    Image.fromarray(make_frames(1)[0]).save(data / "JPEGImages" / "480p" / "cat" / "0.jpg")
    object_id = 10**9
    expressions = {str(4 * (object_id - 1)): {"exp": "a cat", "obj_id": str(object_id)}}
    entry = {"frames": ["0"], "expressions": expressions}
    (data / "meta_expressions.json").write_text(json.dumps({"videos": {"cat": entry}}))
    with pytest.raises(DatasetError, match="has object 1000000000, and a label map no more than"):
        open_dataset(data)


def test_a_list_of_videos_is_a_text(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("JPEGImages/480p", "ImageSets/2017"):
        (data / folder).mkdir(parents=True)
    (data / "meta_expressions.json").write_text('{"videos": {}}')
    (data / "ImageSets" / "2017" / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match=r"cannot read .*val\.txt"):
        open_dataset(data)


def test_expressions_and_clip_names_write_nothing_outside(
    model: Carvid, clip: Path, tmp_path: Path
) -> None:
    """And nothing breaks out of the page."""
    evil = tmp_path / "{{facts}}<img src=x onerror=alert(1)>.mp4"
    clip.rename(evil)
    texts = ["../../evil", EVIL, "{{title}}", "$(touch evil); `touch evil`"]
    model.segment(evil, texts, out=tmp_path / "in" / "out", formats=["cutouts", "html", "green"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([evil.name, "in"])
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]
    assert sorted(p.name for p in (tmp_path / "in" / "out" / "cutouts").iterdir()) == [*"1234"]
    page = (tmp_path / "in" / "out" / "view.html").read_text(encoding="utf-8")
    assert "<img" not in page and page.count("<script") == page.count("</script>") == 1
    title = re.search(r"<title>(.*?) · carvid</title>", page)
    assert title and title[1] == "{{facts}}&lt;img src=x onerror=alert(1)&gt;.mp4"
    line = next(line for line in page.splitlines() if line.startswith("const facts = "))
    assert json.loads(line.removeprefix("const facts = ").removesuffix(";"))["texts"] == texts


def test_a_run_that_somebody_sent_calls_nobody(out: Path, port: int, tmp_path: Path) -> None:
    path = out / "run.json"
    values = json.loads(path.read_text())
    for source in (f"http://127.0.0.1:{port}/a.mp4", f"tcp://127.0.0.1:{port}", "camera:0", "-"):
        values["video"] |= {"path": source, "live": False}
        path.write_text(json.dumps(values))
        for name in ("html", "green"):
            with pytest.raises(OutputError, match="comes only once"):
                export(Track.open(out), out, [name])


@pytest.mark.parametrize("suffix", ["mp4", "m3u8"])
def test_a_playlist_calls_nobody(port: int, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"list.{suffix}"
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/a.ts\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nit-has-no-end.ts\n",
        f"ffconcat version 1.0\nfile 'http://127.0.0.1:{port}/a.mp4'\n",
    ):
        path.write_text(text)
        with pytest.raises(VideoError):
            list(open_video(path))


def test_what_is_damaged_in_a_runs_folder_is_one_line(out: Path, model: Carvid, clip: Path) -> None:
    path = out / "run.json"
    whole = json.loads(path.read_text())
    chance = random.Random(2)
    odd: list[Any] = [None, [], "x", -1, 1e300, {}, {"a": 1}, "1/0", [1], True]
    opened = 0
    for number in range(100):
        values = json.loads(json.dumps(whole))
        place = values
        while True:
            key = chance.choice(list(place))
            if not isinstance(place[key], dict) or not place[key] or chance.random() < 0.3:
                place[key] = chance.choice(odd)
                break
            place = place[key]
        path.write_text(json.dumps(values))
        uses: list[Callable[[], object]] = [
            lambda: Track.open(out),
            lambda: expressions_beside(out / "masks"),
            lambda: selection_beside(out / "masks"),
        ]
        if number % 10 == 0:
            uses.append(lambda: model.segment(clip, TEXTS, out=out, resume=True))
        for use in uses:
            try:
                use()
                opened += 1
            except CarvidError as error:
                assert "\n" not in str(error)
    assert 0 < opened < 300
    for text in ("", "[]", "{}", "null", "[" * 200_000):
        path.write_text(text)
        for use in (lambda: Track.open(out), lambda: expressions_beside(out / "masks")):
            with pytest.raises(OutputError):
                use()


def test_a_states_size_is_bounded(model: Carvid, clip: Path, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", iter([False, True])
    with pytest.raises(KeyboardInterrupt):
        model.segment(clip, TEXTS, out=out, stop=lambda: next(asked))
    path = out / ".carvid" / "progress.json"
    with open_video(clip) as reader:
        facts = model.facts(reader.info, Queries.of(TEXTS))
    whole = json.loads(path.read_text())
    bomb = zlib.compress(bytes(300_000_000), 9)
    for change in (
        {"gray": base64.b64encode(bomb).decode()}, {"size_hw": [10**6, 10**6]}, {"maps": "%"},
        {"gray": base64.b64encode(b"x").decode()}, {"scores": "x"},
    ):  # fmt: skip
        path.write_text(json.dumps(whole | {"state": whole["state"] | change}))
        tracemalloc.start()
        try:
            fault = Progress(out, facts).load()
            assert fault is not None and fault.endswith("progress.json' is damaged")
            assert tracemalloc.get_traced_memory()[1] < 50_000_000
        finally:
            tracemalloc.stop()
    path.write_text(json.dumps(whole))
    assert len(model.segment(clip, TEXTS, out=out, resume=True)) == 6


def test_no_source_file_has_what_would_run_strangers_code() -> None:
    """A look at the sources, for what no test above can see."""
    folder = Path(carvid.__file__).parent
    found = []
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for pattern in (
            r"\bsubprocess\b", r"\bos\.(system|popen|exec|spawn)", r"(?<!\.)\beval\(", r"\bexec\(",
            r"pickle\.loads?\(", r"yaml\.(load|unsafe_load|full_load)\(", r"trust_remote_code",
            r"torch\.load\((?!.*weights_only=True)", r"np\.load\((?!.*allow_pickle=False)",
            r"\bImage\.open\((?!.*formats=)",
        ):  # fmt: skip
            found += [f"{path.name}: {pattern}" for _ in re.finditer(pattern, text)]
    # Lists, of which no shell makes anything.
    commands = {
        "show/fonts.py": 'command = ["fc-match", "--sort", ',
        "workers/ray_cluster.py": 'command = [sys.executable, "-c", JOINING, address]',
    }
    for file, command in commands.items():
        text = re.sub(r"\(\s+", "(", (folder / file).read_text(encoding="utf-8"))
        assert command in text
        assert text.count("subprocess.run(command, ") == text.count("subprocess.run(") == 1
        assert "shell" not in text
    assert set(found) == {rf"{Path(file).name}: \bsubprocess\b" for file in commands}


def test_labels_that_carvid_writes_are_read(tmp_path: Path) -> None:
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    write_label_png(tmp_path / "a.png", labels)
    assert (read_label_png(tmp_path / "a.png") == labels).all()
