"""The page of an evaluation and of a run.

Oracles: closed forms for coordinates, the log and the metrics that were put in, a parser of HTML for what a browser sees.
"""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hrnet.detection.metrics import DetectionEvaluator
from hrnet.detection.spec import DetectionSpec, mask_rcnn
from hrnet.engine.evaluator import Case, Chart, Findings, Matrix, Measure, Series
from hrnet.formats.records import ImageRecord, Object
from hrnet.io.geometry import Frame
from hrnet.results import Detections, Masks, Poses, SemanticMap
from hrnet.vis.report import Evaluation, read_run, svg, write_report, write_run_report
from hrnet.vis.report.checks import check_run
from hrnet.vis.report.images import choose, view
from hrnet.vis.report.run import parent_of, run_charts

HOSTILE = "<script>alert(1)</script>\"'&.png"


class Seen(HTMLParser):
    """Text, tags and attributes as a browser takes them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for name, found in self.tags if name == tag and (value := found.get(attribute))]


def case(folder: Path, number: int, error: float, name: str | None = None) -> Case:
    path = folder / (name or f"{number}.png")
    Image.new("RGB", (80, 60), (90, 120, 90)).save(path)
    points = np.array([[[10.0, 10.0], [40.0, 30.0]]])
    ground_truth, found = (
        Poses(points + shift, np.ones((1, 2)), np.zeros((1, 4)), np.ones(1), ("nose", "tail"), ((0, 1),))
        for shift in (0, error)
    )
    return Case(path, (60, 80), np.array([-0.5, -0.5, 79.5, 59.5]), ground_truth, found, error, f"off by {error}")


def evaluation(cases: tuple[Case, ...] = (), pck: float = 75.0) -> Evaluation:
    """Guessing gives a PCK of 20."""
    found = {"PCK@0.2": pck, "PCK@0.2/left_ear": 61.25, f"PCK@0.2/{HOSTILE}": 88.75, "error/px": 7.125, "AP": 0.4321}
    measures = {"PCK@0.2": Measure(100, "percent"), "error/px": Measure(0), "AP": Measure(1)}
    lines = Chart("Curve", "x", "y", (Series(HOSTILE, [0, 1, 2], [0, 50, 100]),), y_range=(0, 100))
    findings = Findings((lines,), cases, "", {"PCK@0.2": 20.0}, "the mean pose", measures)
    return Evaluation(found, "PCK@0.2", findings)


def page(tmp_path: Path, *arguments: Any) -> str:
    write_report(tmp_path / "out/report.html", *arguments)
    return (tmp_path / "out/report.html").read_text(encoding="utf-8")


def run_of(folder: Path, losses: list[float], *, per_epoch: int = 1, epochs: int | None = None, **more: Any) -> Path:
    """A run folder with a step a line, and an evaluation after every epoch where `metrics` lists any."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    metrics = more.get("metrics", [])
    for step, loss in enumerate(losses, start=1):
        place = {"step": step, "epoch": step / per_epoch, "seconds": 2.0 * step, "learning_rate": 0.001 / step}
        lines.append({**place, "loss": {"heatmaps": loss}, "gradient": 0.5, "samples_per_second": 30.0})
        if step % per_epoch == 0 and step // per_epoch <= len(metrics):
            lines.append({**place, "metrics": metrics[step // per_epoch - 1], "best": True})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = len(losses) / per_epoch if epochs is None else epochs
    (folder / "recipe.json").write_text(json.dumps({"task": "pose", "name": "own", "train": {"epochs": wanted}}))
    return folder


def test_every_number_stands_in_the_page(tmp_path: Path) -> None:
    seen = Seen(page(tmp_path, "A title", {"model": "m", "images": "12"}, evaluation()))
    for text in (
        "A title",
        "75.00",
        "20.00",
        "61.25",
        "88.75",
        "7.12",
        "0.4321",
        "left ear",
        "error/px",
        "12",
        HOSTILE,
    ):
        assert text in seen.text, text
    # Bars: 61.25 of 100.
    assert "61.2" in seen.values("rect", "width")


def test_lines_follow_from_the_data() -> None:
    """Closed form: linear from the chart's left to its right and from its bottom to its top."""
    chart = Chart(
        "t", "x", "y", (Series("a", [0, 1, 4], [0, 50, 100]), Series("b", [0, 4], [20, 20])), y_range=(0, 100)
    )
    first, second = re.findall(r'points="([^"]*)"', svg.draw(chart))
    width, height = svg.WIDTH - svg.LEFT - svg.RIGHT, svg.HEIGHT - svg.TOP - svg.BOTTOM
    for text, xs, ys in ((first, (0, 0.25, 1), (0, 0.5, 1)), (second, (0, 1), (0.2, 0.2))):
        found = np.array([[float(value) for value in pair.split(",")] for pair in text.split()])
        expected = np.column_stack([svg.LEFT + width * np.array(xs), svg.HEIGHT - svg.BOTTOM - height * np.array(ys)])
        np.testing.assert_allclose(found, expected, atol=0.05)  # rounded to a tenth


def test_a_logarithmic_axis_has_equal_factors_equally_long() -> None:
    chart = Chart("t", "x", "y", (Series("a", [0, 1, 2], [0.01, 0.1, 1]),), log=True)
    (points,) = re.findall(r'points="([^"]*)"', svg.draw(chart))
    heights = [float(pair.split(",")[1]) for pair in points.split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)
    assert heights[0] - heights[2] == pytest.approx(svg.HEIGHT - svg.TOP - svg.BOTTOM, abs=0.11)


def test_long_lines_keep_their_mean_and_their_gaps() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 4000)
    thin = svg.thin(Series("a", list(range(4000)), values.tolist()))
    assert len(thin.x) == svg.MOST_POINTS
    np.testing.assert_allclose(thin.y, values.reshape(-1, 10).mean(1))
    values[1234] = math.nan
    assert math.isnan(svg.thin(Series("a", list(range(4000)), values.tolist())).y[123])


@pytest.mark.parametrize(
    "values", [[], [math.nan], [1.0], [0.0, 0.0], [5.0, 5.0], [-3.0, -3.0], [1e30, 1e-30], [math.inf]]
)
@pytest.mark.parametrize("log", [False, True])
def test_any_values_can_be_drawn(values: list[float], log: bool) -> None:
    text = svg.draw(Chart("t", "x", "y", (Series("a", list(range(len(values))), values),), log=log))
    for numbers in re.findall(r'(?:points|d|cx|cy|x|y)="([^"]*)"', text):
        assert "nan" not in numbers
        assert "inf" not in numbers


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0, 100), (0.0, 0.0073), (17.0, 18.5), (-2, 3)):
        ticks = svg.Axis(low, high, 0, 1).ticks()
        assert 3 <= len(ticks) <= 7
        assert low - 1e-9 <= ticks[0]
        assert ticks[-1] <= high + 1e-9
        step = float(f"{ticks[1] - ticks[0]:e}".split("e")[0])
        assert min(abs(step - round_one) for round_one in (1, 2, 5, 10)) < 1e-5


def test_hostile_names_are_words_and_nothing_else(tmp_path: Path) -> None:
    run = read_run(run_of(tmp_path / "run<b>", [1.0, 0.9, 0.8]))
    cases = (case(tmp_path, 0, 3.0, HOSTILE.replace("/", "_")),)
    html = page(tmp_path, f"on {HOSTILE}", {HOSTILE: HOSTILE}, evaluation(cases), run)
    seen = Seen(html)
    assert not [tag for tag, _ in seen.tags if tag in ("script", "iframe", "object", "link", "b")]
    assert not [name for _, found in seen.tags for name in found if name.startswith("on")]
    assert seen.text.count(HOSTILE) >= 2
    assert "<script" not in html


def test_the_page_needs_nothing_else_and_forbids_it(tmp_path: Path) -> None:
    html = page(
        tmp_path, "t", {}, evaluation((case(tmp_path, 0, 3.0),)), read_run(run_of(tmp_path / "run", [1.0, 0.5]))
    )
    assert not re.search(r"https?://|url\(|@import|javascript:", html)
    seen = Seen(html)
    for attribute in ("src", "href", "xlink:href", "srcset", "data", "action"):
        for _, found in seen.tags:
            assert (found.get(attribute) or "data:").startswith("data:image/jpeg;base64,") or attribute not in found
    (policy,) = [found["content"] for tag, found in seen.tags if tag == "meta" and "http-equiv" in found]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    for image in seen.values("img", "src"):
        with Image.open(io.BytesIO(base64.b64decode(image.partition(",")[2]))) as opened:
            assert opened.format == "JPEG"
            assert max(opened.size) <= 340
    assert len(seen.values("img", "alt")) == len(seen.values("img", "src")) == 2
    assert len(seen.values("svg", "aria-label")) + sum(
        "aria-hidden" in found for tag, found in seen.tags if tag == "svg"
    ) == sum(tag == "svg" for tag, _ in seen.tags)


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    arguments = ("t", {}, evaluation(tuple(case(tmp_path, i, float(i)) for i in range(30))))
    assert page(tmp_path, *arguments) == page(tmp_path, *arguments)


def test_the_worst_are_the_worst_and_others_are_others(tmp_path: Path) -> None:
    errors = np.random.default_rng(0).permutation(40).astype(float).tolist()
    cases = [case(tmp_path, i, error) for i, error in enumerate([*errors, math.nan])]
    worst, others = choose(cases, 12, 6)
    assert [found.error for found in worst] == sorted(errors)[:-13:-1]
    assert len({found.path for found in (*worst, *others)}) == 18
    assert all(math.isfinite(found.error) for found in others)
    html = page(tmp_path, "t", {}, evaluation(tuple(cases)))
    assert html.index(f"<strong>{worst[0].path.name}<") < html.index(f"<strong>{worst[1].path.name}<")
    assert [found.error for found in choose(cases[:3], 12, 6)[0]] == sorted(errors[:3], reverse=True)


def test_a_view_shows_its_region_edge_on_edge(tmp_path: Path) -> None:
    """Closed form: the corners of the region come to the corners of the drawing, half a pixel outside the outer centers."""
    found = case(tmp_path, 0, 1.0)
    frame = view(found)
    assert frame.size == (255, 340)
    corners = frame.to_input(found.region.reshape(2, 2))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [339.5, 254.5]], atol=1e-9)


def test_a_image_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = case(tmp_path, 0, 3.0)
    gone.path.unlink()
    assert "It cannot be shown: " in page(tmp_path, "t", {}, evaluation((gone,)))


def test_a_matrix_stands_in_the_page_with_its_numbers(tmp_path: Path) -> None:
    matrix = Matrix(
        "What for what", (HOSTILE, "b_c"), (HOSTILE, "b_c", "others"), ((61.4, 0.3, 38.3), (0.0, 100.0, 0.0))
    )
    found = Evaluation({"mIoU": 50.0}, "mIoU", Findings(matrices=(matrix,), measures={"mIoU": Measure(100)}))
    seen = Seen(page(tmp_path, "t", {}, found))
    table = [text.strip() for text in seen.text[seen.text.index("What for what") :] if text.strip()]
    start = table.index("labeled as")
    assert table[start : start + 9] == ["labeled as", HOSTILE, "b c", "others", HOSTILE, "61", "38", "b c", "100"]
    assert [value for value in seen.values("td", "style") if "--v" in value][:3] == [
        "--v:61.4%",
        "--v:0.3%",
        "--v:38.3%",
    ]


def test_label_maps_are_drawn_side_by_side(tmp_path: Path) -> None:
    """Closed form: a map reduced to half its size, drawn at its own: each label fills two pixels. What has no label stays,
    what is wrong is white in two of six diagonals, and right nowhere."""
    labels, image = np.zeros((30, 40), np.uint8), np.full((60, 80, 3), 100, np.uint8)
    labels[:, 20:], labels[:5] = 1, 255
    wrong = labels.copy()
    wrong[20:, :20] = 1
    names = ("sky", "ground")
    maps = SemanticMap(labels, names), SemanticMap(wrong, names)
    ground_truth, found = (np.array(one) for one in maps[0].plot_pair(maps[1], image, Frame.resize((60, 80), (60, 80))))
    assert (ground_truth[:9] == 100).all()
    left, right = ground_truth[30, 10], ground_truth[30, 70]
    assert (left != right).any()
    assert (ground_truth[12:, :38] == left).all()
    white = (found == 255).all(-1)
    assert white[40:, :40].mean() == pytest.approx(1 / 3, abs=0.02)
    assert not white[:40].any()
    assert not white[:, 40:].any()
    assert [name for name, _ in maps[0].color_key()] == ["sky", "ground"]


@pytest.mark.parametrize(
    ("name", "parent"),
    [("IoU/sky", "IoU"), ("IoU/road/side", "IoU"), ("mIoU", None), ("error/px", None), ("error/px/nose", "error/px")],
)
def test_parts_of_metrics_need_no_metric_of_their_parents_name(name: str, parent: str | None) -> None:
    names = ["mIoU", "IoU/sky", "IoU/road/side", "error/px", "error/px/nose", "error/px/tail"]
    assert parent_of(name, names) == parent


FALLING = [1.0 / step for step in range(1, 21)]


@pytest.mark.parametrize(
    ("losses", "more", "level", "words"),
    [
        ([*FALLING, math.nan, math.nan], {}, "failed", "The loss is not a number from step 21"),
        ([1.0 + 0.1 * step for step in range(20)], {}, "failed", "The loss rises"),
        ([*FALLING, *FALLING[::-1]], {}, "failed", "The loss rises"),
        ([1.0, 1.01, 0.99, 1.0, 1.0, 1.01], {}, "warning", "The loss does not fall"),
        (FALLING, {"per_epoch": 20, "metrics": [{"PCK@0.2": 30.0}]}, "warning", "one epoch only"),
        (FALLING, {"per_epoch": 20, "epochs": 9}, "warning", "Only 1 epochs are done"),
        (FALLING, {"epochs": 30}, "note", "20 of 30 epochs are done"),
        (FALLING, {}, "warning", "was not evaluated yet"),
        (FALLING, {"metrics": [{}] * 20}, "warning", "There is no validation"),
        ([], {"epochs": 10}, "failed", "The log is empty"),
    ],
)
def test_a_run_that_failed_says_so_first(
    tmp_path: Path, losses: list[float], more: dict[str, Any], level: str, words: str
) -> None:
    folder = run_of(tmp_path / "run", losses, **more)
    assert any(found.level == level and words in found.text for found in check_run(read_run(folder)))
    html = write_run_report(folder).read_text(encoding="utf-8")
    top = html[html.index("<body>") : html.index('id="training"')]
    assert words in top
    assert ("This failed." in top) == (level == "failed")


def test_a_good_run_is_not_called_bad(tmp_path: Path) -> None:
    metrics = [{"PCK@0.2": 80.0 - 60 / epoch} for epoch in range(1, 21)]
    noise = np.random.default_rng(0).normal(1, 0.05, 400)
    losses = [(0.1 + math.exp(-step / 60)) * noise[step] for step in range(400)]
    folder = run_of(tmp_path / "run", losses, per_epoch=20, metrics=metrics)
    assert check_run(read_run(folder)) == []
    assert "No sign of failure was found." in write_run_report(folder).read_text(encoding="utf-8")


@pytest.mark.parametrize(("value", "words"), [(15.0, "no better than"), (22.0, "hardly better than"), (40.0, None)])
def test_a_metric_at_chance_is_a_failure(tmp_path: Path, value: float, words: str | None) -> None:
    html = page(tmp_path, "t", {}, evaluation(pck=value))
    assert ("PCK@0.2 is at chance" in html) == ("This failed." in html) == (words is not None)
    assert words is None or words in html


def test_figures_that_fell_again_are_noted(tmp_path: Path) -> None:
    metrics = [{"PCK@0.2": value} for value in (30.0, 60.0, 50.0)]
    run = read_run(run_of(tmp_path / "run", [3.0, 2.0, 1.0], metrics=metrics))
    (remark,) = check_run(run, "PCK@0.2", {"PCK@0.2": Measure(100)})
    assert remark.text == "PCK@0.2 was best at epoch 2 (60) and is 50 now."


def test_curves_are_the_log(tmp_path: Path) -> None:
    metrics = [
        {"PCK@0.2": 10.0 * epoch, "PCK@0.2/nose": 1.0, "AP": 0.1 * epoch, "APM": 0.2, "error/px": 9.0}
        for epoch in (1, 2)
    ]
    run = read_run(run_of(tmp_path / "run", [4.0, 3.0, 2.0, 1.0], per_epoch=2, metrics=metrics))
    charts = {chart.title: chart.series for chart in run_charts(run, "AP")}
    assert list(charts) == ["Loss", "AP", "PCK@0.2", "error/px", "Learning rate", "Gradient", "Speed"]
    assert charts["Loss"] == (Series("heatmaps", [0.5, 1.0, 1.5, 2.0], [4.0, 3.0, 2.0, 1.0]),)
    assert [series.name for series in charts["AP"]] == ["AP", "APM"]
    assert charts["PCK@0.2"] == (Series("PCK@0.2", [1.0, 2.0], [10.0, 20.0]),)
    assert charts["Learning rate"][0].y == [0.001 / step for step in (1, 2, 3, 4)]


def test_damaged_and_repeated_lines_of_a_log(tmp_path: Path) -> None:
    """A killed and resumed run does steps again: the later line counts. What cannot be read is counted and left out."""
    folder = run_of(tmp_path / "run", [3.0, 2.0, 1.0])
    again = json.dumps({"step": 2, "epoch": 2.0, "learning_rate": 0.1, "loss": {"heatmaps": 1.5}})
    broken = '{"step": 9, "ep\n[1]\n{"epoch": 1}\n{"step": 4, "epoch": 4, "loss": 7}\n'
    with (folder / "log.jsonl").open("a") as file:
        file.write(again + "\n" + broken)
    run = read_run(folder)
    assert [line.total for line in run.steps] == [3.0, 2.0, 1.5]
    assert run.damaged == 4
    stopped = json.dumps({"step": 3, "epoch": 3.0, "learning_rate": 0.1, "stopped": "The weight x is not finite."})
    with (folder / "log.jsonl").open("a") as file:
        file.write(stopped + "\n")
    assert any("The weight x is not finite." in found.text for found in check_run(read_run(folder)))
    (folder / "recipe.json").write_text("{")
    write_run_report(folder)


def test_evaluate_writes_the_page_of_every_second_image_and_of_the_run(tmp_path: Path) -> None:
    """Oracle: the figures of the JSON file stand in the page; an image that is not held out is not in it."""
    from hrnet.cli import main
    from hrnet.io.checkpoint import save_model
    from hrnet.nn.spec import HRNetSpec, StageSpec
    from hrnet.pose.model import PoseModel
    from hrnet.pose.skeletons import Skeleton
    from hrnet.pose.spec import PoseSpec

    stages = (StageSpec((4, 8), 1), StageSpec((4, 8, 8), 1), StageSpec((4, 8, 8, 8), 1))
    tiny = HRNetSpec(stages, bottlenecks=1, bottleneck_width=4, stem_width=4, high_resolution_only=True)
    run = run_of(tmp_path / "run", [1.0, 0.9, 0.8], metrics=[{"PCK@0.2": 5.0}] * 3)
    save_model(run / "best.safetensors", PoseModel(PoseSpec(Skeleton(("a", "b", "c")), tiny, input_size=(64, 64))))
    images, annotations = [], []
    for number in range(5):
        Image.new("RGB", (60, 50), (number * 40, 99, 9)).save(tmp_path / f"image {number}.png")
        images.append({"id": number, "file_name": f"image {number}.png"})
        points = [10 + number, 10, 2, 50, 40, 2, 30, 20, 1]
        annotations.append(
            {
                "id": number + 1,
                "image_id": number,
                "category_id": 1,
                "bbox": [5, 5, 50, 40],
                "keypoints": points,
            }
        )
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "keypoints": ["a", "b", "c"]}]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    arguments = ["evaluate", str(run), "--images", str(tmp_path), "--annotations", str(tmp_path / "labels.json")]
    arguments += ["--runtime", "torch", "--device", "cpu", "--hold-out", "2"]
    assert main([*arguments, "--report", str(tmp_path / "out"), "--out", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["images"] == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["report.html"]
    seen = Seen((tmp_path / "out/report.html").read_text(encoding="utf-8"))
    for name, digits in (("PCK@0.2", 2), ("error/px", 2), ("error/px/b", 2), ("AP", 4)):
        assert f"{figures['metrics'][name]:.{digits}f}" in seen.text, name
    assert "Learning rate" in seen.text  # of the run
    shown = {text for text in seen.text if text.startswith("image ")}
    assert shown == {"image 0.png", "image 2.png", "image 4.png"}


def test_detections_are_drawn_side_by_side(tmp_path: Path) -> None:
    """The page of a detection model: ground_truth beside what was found, the colors named, the confusion and the curves."""
    names = ("a cat", "<b>dog</b>")
    Image.new("RGB", (60, 40), (9, 99, 9)).save(tmp_path / "one.png")
    square = np.array([[5, 5], [25, 5], [25, 25], [5, 25.0]])
    objects = tuple(
        Object(label, "", box=np.array([5, 5, 25, 25.0]) + 10 * label, polygons=(square + 10 * label,))
        for label in range(2)
    )
    evaluator = DetectionEvaluator(
        [ImageRecord(tmp_path / "one.png", (40, 60), 1, objects=objects)], DetectionSpec(names, mask_rcnn())
    )
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 5:25, 5:25] = True
    box = np.array([[5, 5, 25, 25.0]])
    found = Detections(box, np.array([0.9]), np.array([0]), names, Masks.from_dense(mask, (40, 60)))
    evaluator.update([0], [found])
    write_report(tmp_path / "report.html", "t", {}, Evaluation.of(evaluator, evaluator.compute()))
    content = (tmp_path / "report.html").read_text()
    assert "1 of 2 objects correct" in content
    assert "Precision over recall, masks" in content
    assert content.count("data:image/jpeg") == 2
    assert "&lt;b&gt;dog" in content
    assert "<b>dog" not in content
