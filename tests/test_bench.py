"""`carvid bench`: what it writes, what it survives, and that it does nothing twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from math import isnan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from carvid.base.errors import ConfigError, DatasetError, OutputError
from carvid.benchmark import bench_models
from carvid.benchmark.ablation import AblationResult, ablate
from carvid.benchmark.ablation_tables import NAMES, ablation_table
from carvid.benchmark.bench import bench
from carvid.benchmark.bench_models import BenchModels, BenchRun
from carvid.benchmark.bench_plan import SemanticWork, plan_bench
from carvid.benchmark.bench_result import BenchResult
from carvid.benchmark.bench_settings import notes_on, settings_of
from carvid.benchmark.sets import SETS, bench_set, paper_number
from carvid.cli.options import BENCHMARKS, TABLES
from carvid.config import Config, load_config, preset_names
from carvid.media.label_png import read_label_png, write_label_png
from tests.benchmark_trees import ade847_tree, context_tree, voc_tree
from tests.conftest import carvid
from tests.referring_trees import gref_tree, refer_tree

SETTINGS = ["crf.iterations=1", "crf.mode=fast", "weights.device=cpu"]
IMAGES = 5

Run = Callable[..., BenchResult]


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    return voc_tree(tmp_path / "voc", IMAGES)


@pytest.fixture
def run(weights: dict[str, str]) -> Run:
    def call(name: str, data: Path, out: Path | None, **options: Any) -> BenchResult:
        return bench(name, data, out, "reference", SETTINGS, **weights, **options)

    return call


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[BenchModels]:
    """Notes the models that are loaded."""
    noted: list[BenchModels] = []

    class Noting(BenchModels):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            noted.append(self)

    monkeypatch.setattr(bench_models, "BenchModels", Noting)
    return noted


def options(weights: dict[str, str]) -> list[str]:
    named = [f"--weights-{name}={folder}" for name, folder in weights.items()]
    return ["--preset=reference", *named, *(f"--set={each}" for each in SETTINGS)]


def pictures(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.png"))}


def numbers(result: BenchResult) -> list[tuple[str, str, float]]:
    return [(each.protocol, each.measure, each.percent) for each in result.scores]


def test_a_set_is_predicted_scored_and_put_beside_the_paper(
    voc: Path, tmp_path: Path, weights: dict[str, str]
) -> None:
    out, csv, plot = tmp_path / "out", tmp_path / "all.csv", tmp_path / "worst.png"
    more = ["--csv", csv, "--plot", plot, *options(weights)]
    result = carvid("bench", "voc20", voc, "-o", out, *more)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines() == [
        f"carvid: voc20: {k} of 5 images" for k in range(1, IMAGES + 1)
    ]
    lines = result.stdout.splitlines()
    assert lines[0] == "Pascal VOC, 20 classes, val, 5 images"
    assert [line.split()[:2] for line in lines[2:4]] == [["released,", "mIoU"], ["usual,", "mIoU"]]
    assert "91.40" in lines[2] and "91.40" not in lines[3]
    assert any(line.startswith("note: settings are not the released ones") for line in lines)
    assert any("in the paper openai/clip-vit-base-patch16 and" in line for line in lines)
    assert sorted(p.name for p in out.iterdir()) == [
        "foreground", "labels", "results.json", "run.json"
    ]  # fmt: skip
    for name in (f"2007_{k:06d}.png" for k in range(IMAGES)):
        labels, whole = (read_label_png(out / each / name) for each in ("labels", "foreground"))
        assert labels.max() <= 20 and whole.min() > 0
        assert (whole[labels > 0] == labels[labels > 0]).all()
    saved = json.loads((out / "results.json").read_text())
    again = carvid("bench", "voc20", voc, "-o", out, "--json", "--resume", *options(weights))
    values = json.loads(again.stdout)
    assert values["scores"] == saved["scores"] and values["classes"] == saved["classes"]
    assert (values["done_now"], saved["done_now"]) == (0, IMAGES)
    rows = csv.read_text().splitlines()
    assert rows[0].startswith("set,split,by,samples,protocol") and len(rows) > 2 * 4 + IMAGES
    with Image.open(plot) as sheet:
        assert sheet.width > 900
    run_json = json.loads((out / "run.json").read_text())
    assert run_json["benchmark"]["set"] == "voc20" and run_json["contents"].keys() == {*weights}
    refused = carvid("bench", "voc20", voc, "-o", out, *options(weights))
    assert refused.returncode == 1 and "add --resume" in refused.stderr


def test_with_background_both_protocols_are_one(voc: Path, tmp_path: Path, run: Run) -> None:
    result = run("voc21", voc, tmp_path / "out")
    assert {each.protocol for each in result.scores} == {"released, usual"}
    assert result.scores[0].paper == 67.6 and not (tmp_path / "out" / "foreground").exists()


def test_every_text_and_every_image_is_encoded_once(
    voc: Path, tmp_path: Path, run: Run, loaded: list[BenchModels]
) -> None:
    def count(result: BenchResult, images: int) -> dict[str, list[int]]:
        assert not result.failed
        (models,) = loaded
        loaded.clear()
        generator, classifier = models.backbones
        assert generator.counts["patches"] == images and not classifier.counts["patches"]
        for backbone in models.backbones:
            assert backbone.counts["texts"] == len(backbone._texts) > 0
        return {key: [b.counts[key] for b in models.backbones] for key in ("texts", "images")}

    some = count(run("voc21", voc, tmp_path / "some", limit=1), 1)
    every = count(run("voc21", voc, tmp_path / "every"), IMAGES)
    assert some["texts"] == every["texts"] == [20 * 2 + 23, 20 * 15]
    assert every["images"][1] > some["images"][1]
    context = context_tree(tmp_path / "context", 2)
    assert count(run("context60", context, tmp_path / "out"), 2)["texts"][1] == 59 * 15
    refs = refer_tree(tmp_path / "refs")
    result = run("refcoco", refs, tmp_path / "refcoco")  # two refs of one image
    assert result.samples == 2
    # Four different sentences bare and in the template, and 23 words.
    assert count(result, 1)["texts"] == [4 * 2 + 23, 4]


def test_an_interrupted_run_resumes_to_the_same_bytes(
    voc: Path, tmp_path: Path, run: Run, weights: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    expected = run("voc20", voc, whole)
    written = []

    def stop(out: Path, name: str, maps: Any) -> None:
        if len(written) == 2:  # between the two files of an image
            write_label_png(out / "labels" / f"{name}.png", maps[0].astype(np.uint8))
            raise KeyboardInterrupt
        written.append(name)
        write(SemanticWork(plan.dataset, background=False), out, name, maps)  # type: ignore[arg-type]

    plan, write = plan_bench(SETS["voc20"], voc), SemanticWork.write
    with monkeypatch.context() as patch:
        patch.setattr(SemanticWork, "write", lambda _, *given: stop(*given))
        stopped = carvid("bench", "voc20", voc, "-o", killed, *options(weights))
    assert stopped.returncode == 130
    assert stopped.stderr.splitlines()[-1].startswith("carvid: interrupted; continue with: carvid")
    assert (killed / "run.json").exists() and not (killed / "results.json").exists()
    (killed / "labels" / f"{written[0]}.png").write_bytes(b"\x89PNG half of one")
    (killed / "labels" / ".2007_000004.part.png").write_bytes(b"half")
    result = run("voc20", voc, killed, resume=True)
    assert result.done_now == IMAGES - 1
    assert pictures(killed) == pictures(whole)
    assert numbers(result) == numbers(expected)


def test_two_workers_do_what_one_does_and_an_image_that_fails_is_listed(
    voc: Path, tmp_path: Path, run: Run
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    expected = run("voc21", voc, whole)
    image = voc / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2007_000001.jpg"
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])  # what its header does not tell
    result = run("voc21", voc, out, workers=2)
    assert list(result.failed) == ["2007_000001"] and result.samples == IMAGES - 1
    assert any("1 image failed" in note for note in result.notes)
    assert "2007_000001.jpg" in result.failed["2007_000001"]
    image.write_bytes(good)
    result = run("voc21", voc, out, resume=True)
    assert result.done_now == 1 and not result.failed
    assert pictures(out) == pictures(whole) and numbers(result) == numbers(expected)


@pytest.mark.parametrize("name", ["refcoco", "grefcoco"])
def test_referring_sets_leave_a_mask_a_sample(name: str, tmp_path: Path, run: Run) -> None:
    data = refer_tree(tmp_path / "data") if name == "refcoco" else gref_tree(tmp_path / "data")
    result = run(name, data, tmp_path / "out")
    masks = sorted(p.name for p in (tmp_path / "out" / "masks").iterdir())
    assert masks == (["0.png", "1.png"] if name == "refcoco" else ["4_0.png", "4_2.png", "5_0.png"])
    assert all(read_label_png(p).max() <= 1 for p in tmp_path.glob("out/masks/*"))
    measures = [each.measure for each in result.scores]
    assert measures[:7] == ["mIoU", "oIoU", *(f"P@0.{k}" for k in (5, 6, 7, 8, 9))]
    assert measures[7:] == ([] if name == "refcoco" else ["gIoU", "cIoU", "N-acc", "T-acc"])
    assert result.scores[0].paper == (33.57 if name == "refcoco" else 16.8)
    assert any("first object" in note for note in result.notes) == (name == "grefcoco")
    result.plot_worst(tmp_path / "worst.png")


def test_equal_sentences_keep_a_mask_each_in_default(
    tmp_path: Path, weights: dict[str, str]
) -> None:
    data = refer_tree(tmp_path / "data")
    kept = {}
    for preset in ("default", "reference"):
        config = settings_of(SETS["refcoco"], preset, ["weights.device=cpu"], **weights)
        plan = plan_bench(SETS["refcoco"], data)
        models = BenchModels([BenchRun(tmp_path, config)], plan.work())
        (_, model), sample = models.models[0], plan.samples[0]
        image = plan.work().picture(plan.jobs()[0])
        found = model.segmenter.segment(image, plan.work().queries(sample))
        kept[preset] = found.kept[2:].tolist()
    assert kept["reference"][1] is False
    assert kept["default"][0] == kept["default"][1]


def test_any_methods_predictions_are_scored_without_a_model(
    voc: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carvid.benchmark.bench.predict_runs", None)
    folder = tmp_path / "maps"
    folder.mkdir()
    for path in (voc / "VOCdevkit/VOC2012/SegmentationClass").iterdir():
        labels = read_label_png(path)
        write_label_png(folder / path.name, np.where(labels == 255, 0, labels).astype(np.uint8))
    for name in ("voc21", "voc20"):
        result = run(name, voc, None, predictions=folder)
        assert result.miou == 100 and result.scores[0].difference == 100 - result.scores[0].paper
        assert any("predictions are given" in note for note in result.notes)
    assert sorted(p.suffix for p in folder.iterdir()) == [".png"] * IMAGES
    (folder / "2007_000003.png").unlink()
    with pytest.raises(DatasetError, match=r"lacks 2007_000003\.png"):
        run("voc21", voc, None, predictions=folder)
    masks = tmp_path / "masks"
    masks.mkdir()
    data = refer_tree(tmp_path / "refs")
    plan = plan_bench(SETS["refcoco"], data)
    for sample in plan.samples:
        truth = plan.dataset.truth(sample)  # type: ignore[arg-type]
        Image.fromarray(truth.astype(np.uint8) * 255).save(masks / f"{sample.name}.png")
    assert run("refcoco", data, None, predictions=masks).miou == 100
    Image.new("L", (3, 3)).save(masks / "0.png")
    with pytest.raises(DatasetError, match=r"0\.png' is 3×3, its image 30×20"):
        run("refcoco", data, None, predictions=masks)


def test_wrong_places_and_options_are_refused(voc: Path, tmp_path: Path, run: Run) -> None:
    out = tmp_path / "out"
    run("voc21", voc, out, limit=2)
    assert len(pictures(out)) == 2
    with pytest.raises(OutputError, match=r"benchmark.set was 'voc21', is 'voc20'"):
        run("voc20", voc, out, limit=2, resume=True)
    with pytest.raises(OutputError, match=r"benchmark.limit was 2, is 0"):
        run("voc21", voc, out, resume=True)
    (out / "labels" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt' is none of what carvid wrote"):
        run("voc21", voc, out, overwrite=True)
    (out / "labels" / "mine.txt").unlink()
    assert run("voc21", voc, out, overwrite=True).done_now == IMAGES
    assert not (out / ".carvid" / "replaced").exists()
    with pytest.raises(OutputError, match="holds something else"):
        run("voc21", voc, voc)
    with pytest.raises(OutputError, match="of which it would become a part"):
        run("voc21", voc, voc / "VOCdevkit" / "VOC2012" / "JPEGImages" / "out")
    other = tmp_path / "other"
    other.mkdir()
    (other / "run.json").write_text('{"carvid": "1", "dataset": {}}')
    with pytest.raises(OutputError, match="holds something else than predictions for a benchmark"):
        run("voc21", voc, other, resume=True)
    for wrong, message in (
        ({"by": "umd"}, "has no refs by anybody"), ({"old_order": True}, "one order of classes"),
        ({"workers": 0}, "workers is 0"), ({"limit": -1}, "limit is -1"),
        ({"predictions": out}, "give either a folder"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            run("voc21", voc, tmp_path / "new", **wrong)
    for read in (voc / "VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg", next(out.rglob("*.png"))):
        with pytest.raises(OutputError, match="read, and would be overwritten"):
            run("voc21", voc, None, predictions=out, written=[read])
    with pytest.raises(ConfigError, match="no benchmark 'voc22'; did you mean"):
        run("voc22", voc, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_more_than_255_classes_are_written_with_16_bits(tmp_path: Path, run: Run) -> None:
    data, out = ade847_tree(tmp_path / "data", 1), tmp_path / "out"
    plan = plan_bench(SETS["ade847"], data)
    (image,) = plan.samples
    truth = plan.dataset.truth(image)  # type: ignore[arg-type]
    out.mkdir()
    labels = np.where(truth > 847, 0, truth).astype(np.uint16)
    plan.work().write(out, image.name, [labels, labels])
    (path,) = (out / "labels").iterdir()
    with Image.open(path) as picture:
        assert picture.mode == "I;16" and plan.work().is_done(out, image.name)
    result = run("ade847", data, None, predictions=out)
    assert [each.protocol for each in result.scores[::4]] == [
        "released", "released, 847 classes", "usual"
    ]  # fmt: skip
    assert [each.paper for each in result.scores[::4]] == [None, 8.1, None]
    assert result.miou == 100


def test_an_ablation_loads_and_encodes_once_and_resumes(
    voc: Path, tmp_path: Path, weights: dict[str, str], loaded: list[BenchModels]
) -> None:
    out, rows = tmp_path / "out", ["circle", "blur", "circle+blur"]

    def call(**more: Any) -> Any:
        return ablate(
            "4", voc, out, "reference", SETTINGS, rows=rows, limit=2, **weights, **more
        )  # fmt: skip

    result = call()
    assert [(row.name, row.paper["voc21"]) for row in result.table.rows] == [
        ("circle", 66.9), ("blur", 66.4), ("circle+blur", 67.6)
    ]  # fmt: skip
    (models,) = loaded
    assert [b.counts["patches"] for b in models.backbones] == [2, 0]
    assert [b.counts["texts"] for b in models.backbones] == [20 * 2 + 23, 20 * 15]
    assert sorted(p.name for p in (out / "prompts").iterdir()) == sorted(rows)
    alone = bench(
        "voc21", voc, tmp_path / "alone", "reference", [*SETTINGS, "prompts.kinds=blur"], limit=2,
        **weights,
    )  # fmt: skip
    assert pictures(tmp_path / "alone") == pictures(out / "prompts" / "blur")
    assert result.results[1].miou == alone.miou
    before = pictures(out)
    shutil.rmtree(out / "prompts" / "circle+blur" / "labels")
    words = [f"--rows={row}" for row in rows] + options(weights)
    again = carvid(
        "bench", "ablation", "prompts", voc, "-o", out, "--limit", 2, "--resume", "--csv",
        tmp_path / "rows.csv", *words,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(result.to_text())
    assert again.stdout.splitlines()[-1] == f"each row's predictions are in {out / 'prompts'}"
    assert pictures(out) == before and (tmp_path / "rows.csv").read_text() == result.to_csv()
    with pytest.raises(OutputError, match="add --resume"):
        call()
    assert len(result.to_text().splitlines()) > 4 and len(result.to_json()["rows"]) == 3


def test_the_tables_are_the_papers() -> None:
    config = load_config("voc")
    rows = {
        name: [row.name for row in ablation_table(name, "voc21", config).rows] for name in NAMES
    }
    assert {name: len(found) for name, found in rows.items()} == {
        "recurrence": 4, "backbones": 4, "prompts": 6, "thresholds": 7, "background": 8,
        "proposals": 5,
    }  # fmt: skip
    for name in NAMES:
        for row in ablation_table(name, "voc21", config).rows:
            changed = load_config(config, row.changes)
            assert (row.paper["voc21"] == 67.6) == (changed == config or row.name == "T+A+M"), (
                row.name
            )
    assert len(ablation_table("5", "coco-object", load_config("coco-object")).rows) == 7
    words = load_config(config, ablation_table("6", "voc21", config).rows[4].changes)
    assert len(words.proposals.background) == 76
    dense = ablation_table("proposals", "coco-object", load_config("coco-object"))
    assert [isnan(row.paper["coco-object"]) for row in dense.rows] == [False] + [True] * 4
    with pytest.raises(ConfigError, match="Table 4 has no rows for 'coco-object'"):
        ablation_table("prompts", "coco-object", config)


def test_rows_that_the_paper_does_not_have() -> None:
    """They have no number and no difference, in text, JSON and CSV."""
    table = ablation_table("proposals", "voc21", load_config("voc"))
    one: Any = SimpleNamespace(miou=40.0, samples=2, title="VOC", notes=(), to_json=dict)
    result = AblationResult(table, "voc21", (one,) * len(table.rows))
    lines = result.to_text().splitlines()
    assert lines[0] == "proposals, VOC, 2 images"
    rows = [line.split() for line in lines if line.startswith(("gradcam", "dense"))]
    assert [row[-2:] for row in rows] == [["67.60", "-27.60"], *[["-", "-"]] * 4]
    told = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert told["paper_table"] is None
    assert [row["paper"] for row in told["rows"]] == [67.6, *[None] * 4]
    assert all(line.endswith("40.0,,") for line in result.to_csv().splitlines()[2:])


def test_sets_are_told_alike_everywhere() -> None:
    assert tuple(SETS) == BENCHMARKS and tuple(NAMES) == TABLES
    for name in ("voc20", "context60", "ade847", "refcoco", "grefcoco"):
        each = bench_set(name)
        reference = load_config(each.preset)
        assert settings_of(each, "reference") == reference, name
        assert notes_on(each, reference) == []
        default = settings_of(each, "default")
        assert default.car.mode == reference.car.mode and default.car.theta == reference.car.theta
        assert default.prompts.kinds == reference.prompts.kinds
        assert default.prompts.eta == reference.prompts.eta
        assert default.proposals.lambda_ == reference.proposals.lambda_
        assert default.car.duplicates == "keep" and default.classifier.last_block
    assert {each.preset for each in SETS.values()} <= {*preset_names()}
    assert settings_of(SETS["voc21"], "tiny") == load_config("tiny")
    assert settings_of(SETS["voc21"], Config()) == Config()
    refcocog = SETS["refcocog"]
    for split, by, value in (
        ("val", None, 36.67), ("val", "umd", 36.67), ("test", None, 36.57),
        ("val", "google", 36.63), ("test", "google", None), ("train", None, None),
    ):  # fmt: skip
        assert paper_number(refcocog, split, by, sam=False) == value
    assert paper_number(SETS["voc21"], "val", None, sam=True) == 70.2
    assert paper_number(SETS["voc20"], "val", None, sam=True) is None
