"""Images in pieces. Oracles: networks whose answer is known at every pixel, and dense sums over loops of windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hrnet.io.geometry import Frame, warp
from hrnet.nn.spec import HRNetSpec, StageSpec
from hrnet.nn.task import as_arrays, scale_images
from hrnet.segmentation.model import SegmentationModel
from hrnet.segmentation.processor import SegmentationOutput, SegmentationProcessor, image_frame
from hrnet.segmentation.spec import CITYSCAPES, SegmentationSpec
from hrnet.segmentation.windows import InferenceMode, Windowed, _Level, offsets, published_mode

STAGES = (StageSpec((4, 8), 1), StageSpec((4, 8, 8), 1), StageSpec((4, 8, 8, 8), 1))
NATIVE = InferenceMode(windows="sliding", native=True)
WINDOW = (64, 96)
Network = Callable[[Tensor], SegmentationOutput]


def tiny(align: bool = False, classes: int = 3, **more: object) -> SegmentationModel:
    backbone = HRNetSpec(
        STAGES, bottlenecks=1, bottleneck_width=4, stem_width=4, fusion_upsample="bilinear", align_corners=align
    )
    names = tuple(f"class {label}" for label in range(classes))
    return SegmentationModel(SegmentationSpec(names, backbone=backbone, input_size=WINDOW, **more)).eval()  # type: ignore[arg-type]  # given by name


def colors(align: bool = False) -> Network:
    """A network that returns the colors under each logit, 0 to 255: three classes, red, green and blue."""

    def forward(images: Tensor) -> SegmentationOutput:
        size = [-(-side // 4) for side in images.shape[-2:]]
        if align:
            logits = functional.interpolate(images, size=size, mode="bilinear", align_corners=True)
        else:
            logits = functional.interpolate(images, size=size, mode="area")
        return SegmentationOutput(255 * logits)

    return forward


def positions(classes: int = 3, size: tuple[int, int] = WINDOW) -> Network:
    """A network that also returns where in the window a logit is, in no simple way."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(classes, 1 + size[0] // 2, 1 + size[1] // 2, generator=generator)
    mix = torch.randn(classes, 3, generator=generator)

    def forward(images: Tensor) -> SegmentationOutput:
        height, width = (-(-side // 4) for side in images.shape[-2:])
        pooled = functional.interpolate(images, size=(height, width), mode="area")
        return SegmentationOutput(torch.einsum("kc,nchw->nkhw", mix, pooled) + table[:, :height, :width])

    return forward


def smooth_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth, in all colors."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def tensor(image: np.ndarray) -> Tensor:
    return scale_images(torch.from_numpy(image[None].copy()).permute(0, 3, 1, 2))


def arrays(forward: Network) -> Callable[[np.ndarray], SegmentationOutput]:
    """The network on images of bytes."""
    return lambda images: as_arrays(forward(scale_images(torch.from_numpy(images).permute(0, 3, 1, 2))))


def segment(image: np.ndarray, model: SegmentationModel, forward: Network, mode: InferenceMode) -> np.ndarray:
    return Windowed(SegmentationProcessor(model.spec), mode).segment(image, arrays(forward))


def assert_same_labels(found: np.ndarray, scores: Tensor) -> None:
    """Labels are the largest scores, wherever rounding in another order of summation cannot exchange the first two."""
    best = scores.topk(2, dim=0).values
    clear = (best[0] - best[1] > 1e-4 * best.abs().max()).numpy()
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], scores.argmax(0).numpy()[clear])


@pytest.mark.parametrize("align", [False, True])
def test_whole_is_what_the_model_predicts(align: bool) -> None:
    model, image = tiny(align), smooth_image(190, 260)
    frame = image_frame((190, 260), model.spec)
    forward = colors(align)
    (expected,) = model.processor.decode(as_arrays(forward(tensor(warp(image, frame)))), [frame])
    agreed = segment(image, model, forward, InferenceMode()) == expected.labels
    assert agreed.mean() > 0.999  # the same sums in another order: some draws go the other way
    assert len(np.unique(expected.labels)) == 3


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize(("height", "width"), [(300, 400), (301, 399), (50, 400), (300, 40), (64, 96), (1, 1)])
def test_a_ramp_is_cut_at_its_pixel(height: int, width: int, align: bool) -> None:
    """Closed form: red is the column number, green half the width. Means of a ramp and values between them lie on the
    ramp, so that the classes change exactly where red overtakes green; only the strip at the right edge, where black
    lies beyond the image or the last logit is continued, may differ."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.minimum(np.arange(width), 255)
    image[..., 1] = min(width // 2, 120)
    labels = segment(image, tiny(align), colors(align), NATIVE)
    margin = 4
    inside = slice(0, max(height - margin, 0)), slice(0, max(width - margin, 0))
    expected = (image[..., 0] <= image[..., 1]).astype(np.uint8)
    # Where red equals green either may win.
    clear = image[..., 0] != image[..., 1]
    if align:
        # Resampled twice at the ends of windows, the ramp's last pixel is half a pixel off.
        clear &= abs(image[..., 0].astype(int) - image[..., 1]) > 1
    np.testing.assert_array_equal(labels[inside][clear[inside]], expected[inside][clear[inside]])


def test_a_constant_network_gives_a_constant_map() -> None:
    def forward(images: Tensor) -> SegmentationOutput:
        logits = torch.tensor([0.5, 2.0, -1.0]).view(1, 3, 1, 1)
        return SegmentationOutput(logits.expand(len(images), 3, images.shape[2] // 4, images.shape[3] // 4).clone())

    model = tiny()
    modes = [InferenceMode((0.5, 1.0, 2.0), True), NATIVE, published_mode(model.spec, (0.5, 2.0), True)]
    for mode in (*modes, InferenceMode((0.75, 1.5), windows="tiles")):
        assert (segment(smooth_image(130, 210), model, forward, mode) == 1).all()


def windows_by_loop(content: int, window: int, stride: int, step: int) -> list[int]:
    starts = [0]
    while starts[-1] + window < content:
        start = starts[-1] + stride
        if start + window >= content:
            start = math.ceil((content - window) / step) * step
        starts.append(start)
    return starts


@pytest.mark.parametrize(("content", "window"), [(64, 64), (65, 64), (300, 64), (301, 96), (128, 64), (10, 64)])
def test_windows_cover_everything_and_the_last_is_moved_back(content: int, window: int) -> None:
    for share, step in ((2 / 3, 4), (2 / 3, 1), (1.0, 1), (1.0, 4)):
        found = offsets(content, window, share, step)
        assert found == windows_by_loop(content, window, int(window * share) // step * step, step)
        covered = np.zeros(max(content, window) + step, bool)
        for start in found:
            covered[start : start + window] = True
        assert covered[:content].all()
        assert found[-1] + window < content + step or content < window


def dense_plain(image: np.ndarray, forward: Network, flip: bool) -> Tensor:
    """Mean of logits over windows of the image at its own scale, at every pixel: everything is held at once."""
    height, width = image.shape[:2]
    tops, lefts = windows_by_loop(height, 64, 40, 4), windows_by_loop(width, 96, 64, 4)
    padded = np.zeros((tops[-1] + 64, lefts[-1] + 96, 3), np.uint8)
    padded[:height, :width] = image
    sums = torch.zeros(3, padded.shape[0] // 4, padded.shape[1] // 4)
    counts = torch.zeros_like(sums[:1])
    for top in tops:
        for left in lefts:
            crop = tensor(padded[top : top + 64, left : left + 96])
            logits = forward(crop).logits[0]
            if flip:
                logits = (logits + forward(crop.flip(-1)).logits[0].flip(-1)) / 2
            sums[:, top // 4 : top // 4 + 16, left // 4 : left // 4 + 24] += logits
            counts[:, top // 4 : top // 4 + 16, left // 4 : left // 4 + 24] += 1
    full = functional.interpolate((sums / counts)[None], scale_factor=4, mode="bilinear", align_corners=False)
    return full[0, :, :height, :width]


@pytest.mark.parametrize(("height", "width"), [(150, 250), (64, 500), (400, 96), (30, 40), (221, 333)])
@pytest.mark.parametrize("flip", [False, True])
def test_windows_are_the_dense_mean(height: int, width: int, flip: bool) -> None:
    """Sizes: both axes, one axis, none, no multiple of 4. The network answers differently in every window."""
    image, forward = smooth_image(height, width), positions()
    found = segment(image, tiny(), forward, InferenceMode((1.0,), flip, "sliding", native=True))
    assert_same_labels(found, dense_plain(image, forward, flip))


def test_scales_are_averaged_as_probabilities() -> None:
    image, forward, model = smooth_image(190, 260), positions(), tiny()
    scales = (0.5, 1.0, 1.5)
    total = torch.zeros(3, 190, 260)
    for scale in scales:
        frame = image_frame((190, 260), model.spec, scale)
        logits = forward(tensor(warp(image, frame))).logits[0]
        # The slow way from logits to pixels: each pixel on its own, between its four logits.
        rows, columns = (
            np.clip(
                (frame.to_input(np.stack([np.arange(n), np.arange(n)], 1).astype(float))[:, axis] + 0.5) / 4 - 0.5,
                0,
                m - 1,
            )
            for axis, n, m in ((1, 190, logits.shape[1]), (0, 260, logits.shape[2]))
        )
        values = logits.numpy()
        full = np.empty((3, 190, 260), np.float32)
        for y, row in enumerate(rows):
            r0, r1 = int(row), min(int(row) + 1, values.shape[1] - 1)
            line = values[:, r0] * (1 - (row - r0)) + values[:, r1] * (row - r0)
            for x, column in enumerate(columns):
                c0, c1 = int(column), min(int(column) + 1, values.shape[2] - 1)
                full[:, y, x] = line[:, c0] * (1 - (column - c0)) + line[:, c1] * (column - c0)
        total += torch.softmax(torch.from_numpy(full), 0)
    assert_same_labels(segment(image, model, forward, InferenceMode(scales)), total)


def dense_published(
    image: np.ndarray,
    model: SegmentationModel,
    forward: Network,
    scale: float,
    kind: str,
) -> Tensor:
    """The released evaluation of one scale, everything held at once: exponentials averaged over windows and resized."""
    align = model.spec.backbone.align_corners
    source = image.shape[0], image.shape[1]
    frame = image_frame(source, model.spec, scale)
    height, width = round(frame.matrix[1, 1] * source[0]), round(frame.matrix[0, 0] * source[1])
    whole = kind == "whole" or (kind == "tiles" and scale <= 1)
    window = frame.size if whole else WINDOW
    strides = [int(side * 2.0 / 3.0) if kind == "sliding" else side for side in window]
    size = max(height, window[0]), max(width, window[1])
    scaled = warp(image, Frame(frame.matrix, size, source), antialias=False)
    sums, counts = torch.zeros(3, *size), torch.zeros(1, *size)
    for top in windows_by_loop(height, window[0], strides[0], 1):
        for left in windows_by_loop(width, window[1], strides[1], 1):
            crop = tensor(scaled[top : top + window[0], left : left + window[1]])
            first, second = (
                functional.interpolate(forward(one).logits, size=window, mode="bilinear", align_corners=align)[0]
                for one in (crop, crop.flip(-1))
            )
            score = ((first + second.flip(-1)) / 2).exp()
            sums[:, top : top + window[0], left : left + window[1]] += score
            counts[:, top : top + window[0], left : left + window[1]] += 1
    cut = (sums / counts)[None, :, :height, :width]
    return functional.interpolate(cut, size=source, mode="bilinear", align_corners=align)[0]


@pytest.mark.parametrize("kind", ["whole", "sliding", "tiles"])
@pytest.mark.parametrize("align", [False, True])
def test_the_published_protocol_is_the_released_computation(kind: str, align: bool) -> None:
    model, image = tiny(align), smooth_image(150, 211)
    forward = positions(size=(64 * 4, 96 * 4))
    scales = (0.5, 1.0, 1.75)
    mode = InferenceMode(scales, True, kind, published=True)  # type: ignore[arg-type]  # a parameter of the test
    total = torch.stack([dense_published(image, model, forward, scale, kind) for scale in scales]).sum(0)
    assert_same_labels(segment(image, model, forward, mode), total)


def test_exponentials_are_not_probabilities() -> None:
    """Closed form: logits of 4, 0, 0 at the small scale and of 10, 10.5, 0 at the large one. Exponentials of the large
    logits outweigh all, so the second class wins; of the probabilities, 0.96 + 0.38 for the first and 0.02 + 0.62 for the
    second, the first does."""

    def forward(images: Tensor) -> SegmentationOutput:
        small = images.shape[-1] < WINDOW[1]
        logits = torch.tensor([4.0, 0.0, 0.0] if small else [10.0, 10.5, 0.0]).view(1, 3, 1, 1)
        return SegmentationOutput(logits.expand(len(images), 3, images.shape[2] // 4, images.shape[3] // 4).clone())

    model, image = tiny(), smooth_image(64, 96)
    assert (segment(image, model, forward, InferenceMode((0.5, 1.0))) == 0).all()
    assert (segment(image, model, forward, InferenceMode((0.5, 1.0), published=True)) == 1).all()


@pytest.mark.parametrize("published", [False, True])
def test_the_flipped_image_gives_the_flipped_map(published: bool) -> None:
    """With a flip test, and classes that change sides."""
    model = tiny(pairs=((0, 2),))
    # The canvas's aspect; and windows that lie alike from either side.
    image, forward = smooth_image(128, 192 if published else 96 + 64), positions()
    mode = InferenceMode((1.0,), True, "whole" if published else "sliding", native=not published, published=published)
    found = segment(image, model, forward, mode)
    mirrored = segment(np.ascontiguousarray(image[:, ::-1]), model, forward, mode)
    agreed = np.array([2, 1, 0])[mirrored[:, ::-1]] == found
    assert agreed.mean() > 0.995  # in another order of summation draws may go the other way


def test_rows_are_forgotten() -> None:
    """Of an image of 100 rows of windows never more are held than two rows of windows have."""
    image = smooth_image(40 * 100, 100)
    windowed = Windowed(SegmentationProcessor(tiny().spec), NATIVE)
    level = _Level(windowed, image, arrays(positions()), 1.0)
    most = 0
    for top in range(0, len(image), 50):
        level.scores(range(top, min(top + 50, len(image))))
        assert level._sums is not None
        most = max(most, level._sums.shape[1])
    assert most <= 2 * 64 // 4 + 50 // 4 + 2


def test_every_set_has_its_published_windows() -> None:
    backbone = tiny().spec.backbone
    cityscapes = SegmentationSpec(backbone=backbone)
    assert cityscapes.class_names == CITYSCAPES
    assert published_mode(cityscapes).windows == "tiles"
    assert published_mode(tiny().spec).windows == "sliding"
    assert published_mode(tiny(squash=True).spec).windows == "whole"


@pytest.mark.parametrize("wrong", [{"scales": ()}, {"scales": (0.0,)}, {"native": True}, {"scales": (math.inf,)}])
def test_protocols_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"(?i)scale"):
        InferenceMode(**wrong)  # type: ignore[arg-type]  # wrong on purpose
