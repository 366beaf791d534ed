"""Photometric augmentation."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from hrnet.io.geometry import Image


def recolor(image: Image, strength: float, rng: np.random.Generator) -> Image:
    """Change brightness, contrast and saturation at random, in this order.

    Args:
        image: RGB image.
        strength: standard deviation of each factor around 1, clipped to 0.3 to 1.9; 0 leaves the image and the generator as
            they are.
        rng: random generator.
    """
    if not strength:
        return image
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    brightness, contrast, saturation = np.clip(1 + strength * rng.standard_normal(3), 0.3, 1.9)
    tensor = functional.adjust_brightness(tensor, float(brightness))
    tensor = functional.adjust_contrast(tensor, float(contrast))
    tensor = functional.adjust_saturation(tensor, float(saturation))
    return tensor.permute(1, 2, 0).contiguous().numpy()
