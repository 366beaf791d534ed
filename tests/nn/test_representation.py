from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hrnet.nn.representation import ConcatConv2d, PixelHead, Pyramid, concatenate


def test_concatenation_is_opencvs_enlargement() -> None:
    # Oracle: OpenCV's bilinear resize, which puts edges on edges too. Tolerance: float32 weights of four neighbors.
    maps = [torch.randn(1, 2, 12 // (1 << level), 16 // (1 << level)) for level in range(3)]
    found = concatenate(maps).numpy()[0]
    expected = [cv2.resize(channel, (16, 12), interpolation=cv2.INTER_LINEAR) for x in maps for channel in x[0].numpy()]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-5)


def test_concatenation_with_aligned_corners() -> None:
    # Oracle: closed form: with corners on corners a ramp stays a ramp. Tolerance: float32.
    ramp = torch.linspace(0, 1, 5).view(1, 1, 1, 5)
    found = concatenate([torch.zeros(1, 1, 1, 9), ramp], align_corners=True)[0, 1, 0]
    torch.testing.assert_close(found, torch.linspace(0, 1, 9), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(16, 24), (9, 13)])
def test_convolution_of_the_concatenation_without_it(kernel: int, align_corners: bool, size: tuple[int, int]) -> None:
    # Oracle: PyTorch's convolution of the concatenation itself, and its gradients. Tolerance: the same products of double
    # precision in another order.
    maps = [
        torch.randn(2, width, -(-size[0] >> level), -(-size[1] >> level), dtype=torch.double, requires_grad=True)
        for level, width in enumerate((3, 5, 2))
    ]
    conv = ConcatConv2d((3, 5, 2), 7, kernel, align_corners).double()
    inputs = [*maps, conv.weight, conv.bias]
    expected = functional.conv2d(concatenate(maps, align_corners), conv.weight, conv.bias, padding=kernel // 2)
    found = conv(*maps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(conv(*maps), expected, rtol=0, atol=1e-12)
    direction = torch.randn_like(expected)
    for gradient, ground_truth in zip(
        torch.autograd.grad(found, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True
    ):
        torch.testing.assert_close(gradient, ground_truth, rtol=0, atol=1e-11)


@pytest.mark.parametrize("kernel", [1, 3])
def test_nothing_as_large_as_the_concatenation_is_kept(kernel: int) -> None:
    # Property: of maps at the full size, only the first, which was there before, is kept for the gradient.
    maps = [
        torch.randn(1, width, 16 >> level, 24 >> level, requires_grad=True) for level, width in enumerate((3, 5, 2))
    ]
    conv, kept = ConcatConv2d((3, 5, 2), 7, kernel), []

    def pack(value: torch.Tensor) -> torch.Tensor:
        kept.append(value)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        conv(*maps)
    large = [value for value in kept if value.shape[-2:] == (16, 24)]
    assert len(large) == 1
    assert large[0].data_ptr() == maps[0].data_ptr()


def test_pixel_head_is_two_matrix_products() -> None:
    # Oracle: numpy. Tolerance: float32 sums of six terms.
    head = PixelHead([6], 3).eval()
    norm = head.norm
    cast(torch.Tensor, norm.running_mean).normal_()
    x = torch.randn(2, 6, 4, 5)
    first, last = head.project, head.classify

    def linear(layer: nn.Conv2d, values: np.ndarray) -> np.ndarray:
        weight, bias = layer.weight.detach().numpy()[..., 0, 0], cast(torch.Tensor, layer.bias).detach().numpy()
        return np.einsum("oc,nchw->nohw", weight, values) + bias[:, None, None]

    mean = cast(torch.Tensor, norm.running_mean).numpy()[:, None, None]
    hidden = np.maximum((linear(first, x.numpy()) - mean) / np.sqrt(1 + 1e-5), 0)
    with torch.inference_mode():
        np.testing.assert_allclose(head([x]).numpy(), linear(last, hidden), atol=1e-5)


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_pyramid_pools_every_level_from_the_finest_map(pooling) -> None:
    # Oracle: numpy over blocks. Tolerance: float32 means of up to 64 values.
    pyramid = Pyramid([2, 4], outputs=3, num_levels=4, pooling=pooling)
    maps = [torch.randn(1, 2, 16, 24), torch.randn(1, 4, 8, 12)]
    with torch.inference_mode():
        finest = functional.conv2d(concatenate(maps), pyramid.reduce.weight, pyramid.reduce.bias).numpy()
        for level, found in enumerate(pyramid(maps)):
            side = 2**level
            blocks = finest.reshape(1, 3, 16 // side, side, 24 // side, side)
            pooled = blocks.mean((3, 5)) if pooling == "average" else blocks.max((3, 5))
            expected = pyramid.levels[level](torch.from_numpy(pooled))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_pyramid_of_fcos_starts_at_stride_eight() -> None:
    # Property, exact: a convolution of stride 2 is every second value of that of stride 1.
    strided, dense = Pyramid([2], outputs=3, num_levels=2, stride=2), Pyramid([2], outputs=3, num_levels=2)
    dense.load_state_dict(strided.state_dict())
    maps = [torch.randn(1, 2, 8, 8)]
    with torch.inference_mode():
        for found, whole in zip(strided(maps), dense(maps), strict=True):
            torch.testing.assert_close(found, whole[..., ::2, ::2], rtol=0, atol=1e-6)


def test_pyramid_starts_with_zero_biases_and_uniform_weights() -> None:
    # Oracle: closed form: Kaiming uniform of slope 1 reaches sqrt(3 / fan in) and not further.
    pyramid = Pyramid([32, 64], outputs=64)
    bound = (3 / 96) ** 0.5
    largest = pyramid.reduce.weight.abs().max().item()
    assert 0.99 * bound < largest <= bound
    assert not cast(torch.Tensor, pyramid.reduce.bias).any()


@pytest.mark.parametrize("size", [8, 16])
def test_the_coarsest_level_of_a_tiny_image_learns_in_half_precision(size: int) -> None:
    # Oracle: the gradient in single precision. PyTorch 2.14 leaves it unwritten for a stride of 2 over a single pixel.
    pyramid = Pyramid((16,), 32, 4, stride=2)
    maps, kernel = [torch.randn(2, 16, size, size)], pyramid.get_parameter("levels.3.weight")
    gradients = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            level = pyramid(maps)[-1]
        gradients.append(torch.autograd.grad(level.float().sum(), kernel)[0])
    assert torch.allclose(*gradients, atol=0.05 * gradients[0].abs().max().item())
