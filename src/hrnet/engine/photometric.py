"""Photometric augmentation."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from hrnet.io.geometry import Color, Frame, Image


def recolor(
    image: Image, strength: float, rng: np.random.Generator, frame: Frame | None = None, fill: Color = (0, 0, 0)
) -> Image:
    """Change brightness, contrast and saturation at random, in this order.

    Args:
        image: RGB image.
        strength: standard deviation of each factor around 1, clipped to 0.3 to 1.9; 0 leaves the image and the generator as
            they are.
        rng: random generator.
        frame: map through which the image was warped; what lies outside of its source keeps the fill. None: nothing does.
        fill: color outside.
    """
    if not strength:
        return image
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    brightness, contrast, saturation = np.clip(1 + strength * rng.standard_normal(3), 0.3, 1.9)
    tensor = functional.adjust_brightness(tensor, float(brightness))
    tensor = functional.adjust_contrast(tensor, float(contrast))
    tensor = functional.adjust_saturation(tensor, float(saturation))
    recolored = tensor.permute(1, 2, 0).contiguous().numpy()
    outside = None if frame is None else frame.outside()
    if outside is not None:
        recolored[outside] = fill
    return recolored
