"""What other tools read back is what the masks are."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from carvid.base.errors import ConfigError, OutputError
from carvid.config import Config
from carvid.exports.detections import detections
from carvid.exports.export import export
from carvid.exports.green import GREEN
from carvid.media.encode import BT709
from carvid.media.open import Selection, open_video
from carvid.run.facts import RunFacts
from carvid.run.track import Track
from carvid.show.page import for_script
from tests import HANGS_S
from tests.conftest import make_frames
from tests.export_scenes import Planes

COUNT, SIZE = 6, (34, 48)
EVIL = "</script><img src=x onerror=alert(1)> & \u2028 'a' \"dog\""
TEXTS = ("a dog", EVIL)


def label_planes() -> NDArray[np.uint8]:
    """Ragged masks of two labels, uint8 (6, 34, 48); label 2 is not in the first frame."""
    rng = np.random.default_rng(2)
    planes = np.zeros((COUNT, *SIZE), np.uint8)
    for t, plane in enumerate(planes):
        plane[5:20, 4 + t : 20 + t] = rng.random((15, 16)) > 0.3
        if t:
            plane[22:30, 30:44] = 2 * (rng.random((8, 14)) > 0.5)
    return planes


@pytest.fixture
def track(tmp_path: Path) -> Track:
    clip = tmp_path / "clip.mkv"
    with av.open(str(clip), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *SIZE, "bgr0"
        for image in make_frames(COUNT):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        out.mux(stream.encode())
    planes = label_planes()
    with open_video(clip) as reader:
        facts = RunFacts(Config(), reader.info, TEXTS, (), {})
    masks = planes[:, None] == np.arange(1, 3)[None, :, None, None]
    scores = np.linspace(0, 1, 2 * COUNT, dtype=np.float32).reshape(COUNT, 2)
    times = np.arange(COUNT) / 25
    return Track(facts, times, scores, Planes(masks), Planes(planes))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_coco_gives_the_masks_back(track: Track, tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO

    export(track, tmp_path, ["coco", "davis"])
    coco = COCO(str(tmp_path / "coco.json"))
    read = np.zeros((COUNT, *SIZE), np.uint8)
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation).astype(bool)
        read[annotation["image_id"] - 1][mask] = annotation["track_id"]
        assert annotation["area"] == mask.sum()
        x, y, w, h = annotation["bbox"]
        assert mask[y : y + h, x : x + w].sum() == mask.sum()
        assert mask[y].any() and mask[:, x].any()
        assert mask[y + h - 1].any() and mask[:, x + w - 1].any()
    assert (read == label_planes()).all()
    assert [c["name"] for c in coco.dataset["categories"]] == list(TEXTS)
    assert len(coco.dataset["annotations"]) == 2 * COUNT - 1
    assert [i["time_s"] for i in coco.dataset["images"]] == [t / 25 for t in range(COUNT)]


def test_alpha_decodes_to_the_masks(track: Track, tmp_path: Path) -> None:
    export(track, tmp_path, ["alpha"])
    with av.open(str(tmp_path / "alpha.mov")) as container:
        frames = list(container.decode(video=0))
    assert [frame.time for frame in frames] == pytest.approx([t / 25 for t in range(COUNT)])
    for frame, plane, image in zip(frames, label_planes(), make_frames(COUNT), strict=True):
        rgba = frame.to_ndarray(format="rgba")
        assert (rgba[..., 3] == np.where(plane > 0, 255, 0)).all()
        assert np.abs(rgba[..., :3].astype(int) - image).mean() < 8


def test_alpha_has_the_pixels_shape_and_names_its_colors(track: Track, tmp_path: Path) -> None:
    object.__setattr__(track.facts.video, "pixel_aspect", Fraction(64, 45))
    export(track, tmp_path, ["alpha"])
    with av.open(str(tmp_path / "alpha.mov")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == Fraction(64, 45)
        context = stream.codec_context
        assert {context.color_primaries, context.color_trc, context.colorspace} == {BT709}


def test_green_is_where_nothing_is(track: Track, tmp_path: Path) -> None:
    export(track, tmp_path, ["green"])
    with open_video(tmp_path / "green.mp4") as reader:
        frames = list(reader)
    assert len(frames) == COUNT
    corner = frames[0].image[-6:, :10].astype(int)
    assert np.abs(corner - np.array(GREEN)).max() < 12


def test_cutouts_are_the_frame_under_the_mask(track: Track, tmp_path: Path) -> None:
    export(track, tmp_path, ["cutouts"])
    for label in (1, 2):  # of which the second is not in the first frame
        for t, (plane, image) in enumerate(zip(label_planes(), make_frames(COUNT), strict=True)):
            rgba = np.array(Image.open(tmp_path / "cutouts" / str(label) / f"{t:05d}.png"))
            assert rgba.shape == (*SIZE, 4)
            assert (rgba[..., 3] == np.where(plane == label, 255, 0)).all()
            assert (rgba[..., :3] == image * (plane == label)[..., None]).all()


def test_cutouts_of_an_earlier_longer_run_go(track: Track, tmp_path: Path) -> None:
    place = tmp_path / "cutouts"
    stale = [place / "1" / "00006.png", place / "3" / "00000.png", place / "12" / "123456.png"]
    kept = [place / "mine.png", place / "1" / "mine.png", place / "3" / "notes.txt"]
    for path in (*stale, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    nothing: Any = Planes(np.zeros_like(label_planes()))
    for each in (track, replace(track, label_maps=nothing)):
        export(each, tmp_path, ["cutouts"])
        assert not any(path.exists() for path in stale) and not (place / "12").exists()
        assert all(path.read_bytes() == b"x" for path in kept)
        written = sorted(place.rglob("0*.png"))
        assert len(written) == 2 * COUNT
    assert not any(np.array(Image.open(path)).any() for path in written)


def test_the_page_holds_everything_and_nothing_breaks_out(track: Track, tmp_path: Path) -> None:
    export(track, tmp_path, ["html"])
    page = (tmp_path / "view.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img" not in page and "{{" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:http|//)""", page)
    line = next(line for line in page.splitlines() if line.startswith("const facts = "))
    facts = json.loads(line.removeprefix("const facts = ").removesuffix(";"))
    assert facts["texts"] == list(TEXTS) and len(facts["scores"]) == COUNT
    start = page.index("const pictures = ") + len("const pictures = ")
    pictures = json.loads(page[start : page.index("];", start) + 1])
    assert len(pictures) == COUNT
    for (_, code), plane in zip(pictures, label_planes(), strict=True):
        assert (np.array(Image.open(io.BytesIO(base64.b64decode(code)))) == plane).all()


CHROMIUM = next(filter(None, map(shutil.which, (
    "chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
))), None)  # fmt: skip
USE_THE_PAGE = """
const boxes = [...document.querySelectorAll("#texts input")];
const seen = {}, masks = [];
async function done(act) {
  delete document.body.dataset.frame;
  act();
  while (!document.body.dataset.frame) await new Promise(next => setTimeout(next, 5));
}
async function choose(wanted) {
  for (const [k, box] of boxes.entries())
    if (box.checked !== (k === wanted)) await done(() => box.click());
  const view = $("view");
  return view.getContext("2d").getImageData(0, 0, view.width, view.height).data;
}
(async () => {
  while (!document.body.dataset.frame) await new Promise(next => setTimeout(next, 5));
  for (let t = 0; t <= +$("place").max; t++) {
    if (t) await done(() => { $("place").value = t; $("place").oninput(); });
    const bare = await choose(-1), differs = [];
    for (const k of boxes.keys()) {
      const drawn = await choose(k);
      let row = "";
      for (let i = 0; i < bare.length; i += 4)
        row += +[0, 1, 2].some(c => bare[i + c] !== drawn[i + c]);
      differs.push(row);
    }
    masks.push(differs);
  }
  seen.time = $("time").textContent;
  seen.scores = [...document.querySelectorAll("#texts output")].map(e => e.textContent);
  const {left, top} = $("scores").getBoundingClientRect();
  await done(() => $("scores").dispatchEvent(new PointerEvent("pointerdown",
    {clientX: left + 40, clientY: top + 40, buttons: 1})));
  seen.picked = $("time").textContent;
  seen.absent = document.querySelectorAll("#texts output")[1].textContent;
  seen.texts = [...document.querySelectorAll("#texts span")].map(e => e.textContent);
  seen.images = document.images.length;
  const result = document.createElement("pre");
  result.textContent = JSON.stringify({...seen, masks});
  document.body.append(result);
})();
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_in_a_browser_shows_the_masks(track: Track, tmp_path: Path) -> None:
    """What changes when an expression is switched on is its mask, in every frame."""
    export(track, tmp_path, ["html"])
    page = tmp_path / "view.html"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</html>", f"<script>{USE_THE_PAGE}</script></html>"))
    result = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000", "--dump-dom",
         page.as_uri()],
        capture_output=True, text=True, check=True, timeout=HANGS_S,
    )  # fmt: skip
    printed = re.search("<pre>(.*)</pre>", result.stdout)
    assert printed is not None, result.stderr
    seen = json.loads(html.unescape(printed[1]))
    for drawn, plane in zip(seen["masks"], label_planes(), strict=True):
        for k, row in enumerate(drawn, 1):
            assert (np.array([*row]).reshape(SIZE) == "1").tolist() == (plane == k).tolist()
    assert seen["texts"] == list(TEXTS) and seen["images"] == 0
    assert seen["time"] == "frame 5 · 0.20 s" and seen["picked"] == "frame 0 · 0.00 s"
    assert seen["scores"] == ["0.91", "1.00"] and seen["absent"] == "not found · 0.09"


def test_json_for_a_script_has_no_tags() -> None:
    assert not set("<>&\u2028\u2029") & set(for_script([EVIL]))
    assert json.loads(for_script([EVIL])) == [EVIL]


def test_detections_have_labels_scores_and_masks(track: Track) -> None:
    pytest.importorskip("supervision")
    found: Any = detections(track, 1)
    assert found.class_id.tolist() == found.tracker_id.tolist() == [1, 2]
    assert found.confidence.tolist() == track.scores[1].tolist()
    assert (found.mask == track.masks[1]).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert found.data["class_name"].tolist() == list(TEXTS)
    assert len(detections(track, 0)) == 1


def test_what_cannot_be_exported_is_said(
    track: Track, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="unknown format 'coca'; did you mean 'coco'"):
        export(track, tmp_path, ["coca"])
    object.__setattr__(track.facts.video, "live", True)
    with pytest.raises(OutputError, match="comes only once"):
        export(track, tmp_path, ["green"])
    object.__setattr__(track.facts.video, "live", False)
    object.__setattr__(track.facts.video, "selection", Selection(stride=2))
    for name in ("green", "alpha", "cutouts", "html"):
        with pytest.raises(OutputError, match="another number of frames"):
            export(track, tmp_path, [name])
        assert not list(tmp_path.glob("*.m*4")) and not (tmp_path / "view.html").exists()
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ConfigError, match="needs pycocotools; pip install"):
        export(track, tmp_path, ["coco"])
