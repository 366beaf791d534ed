"""Pictures from files and back; the only place that knows about file formats, orientation and colour order."""

from __future__ import annotations

import glob
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps, UnidentifiedImageError

from hrnet.errors import InputError
from hrnet.geometry import Image

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif")
# Larger pictures are refused before they are decoded: at three bytes a pixel this many are half a gigabyte.
MAX_PIXELS = 170_000_000


def read_image(path: Path | str) -> Image:
    """A picture as RGB bytes, upright.

    The orientation of the camera is applied; of an animation the first frame is taken; transparent pixels show white;
    16-bit values are reduced to 8 bits.

    Raises:
        InputError: the file is missing, empty, damaged, no picture, or larger than `MAX_PIXELS`.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder where a picture was expected; name a file in it.")
    if not path.exists():
        raise InputError(f"{path} does not exist; check the name.")
    if not os.access(path, os.R_OK) or not path.is_file():
        raise InputError(f"{path} cannot be read; check that it is a file you may read.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty; copy or download it again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of large and of slightly wrong files; both are dealt with here
            with Pillow.open(path, formats=FORMATS) as file:
                if file.width * file.height > MAX_PIXELS:
                    raise _too_large(path, f" ({file.width} x {file.height} pixels)")
                return _to_rgb(file, path)
    except UnidentifiedImageError:
        kinds = ", ".join(FORMATS)
        raise InputError(f"{path} is not a picture this program reads ({kinds}); convert it first.") from None
    except Pillow.DecompressionBombError:
        raise _too_large(path, "") from None
    except InputError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError) as error:
        raise InputError(f"{path} is damaged ({error}); copy or export it again.") from error


def _too_large(path: Path, size: str) -> InputError:
    return InputError(
        f"{path} has too many pixels{size}; at most {MAX_PIXELS // 10**6} million are read: scale it down."
    )


def _to_rgb(file: Pillow.Image, path: Path) -> Image:
    picture: Pillow.Image = ImageOps.exif_transpose(file)
    if picture.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        # 16-bit grey, which Pillow would clip instead of scale.
        values = np.clip(np.asarray(picture).astype(np.int64), 0, 65535)
        return np.repeat((values // 257).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode == "F":
        raise InputError(
            f"{path} holds floating-point values, whose black and white are not known; save it with 8 bits."
        )
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Pillow.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Pillow.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def check_image(image: np.ndarray) -> Image:
    """The array itself, if it is an RGB picture.

    Raises:
        InputError: another type, shape or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"An array picture is uint8 RGB of shape (height, width, 3), not {image.dtype} of shape {image.shape}."
        )
    return image


def find_images(source: str) -> list[Path]:
    """The pictures that a name stands for: a file, the pictures of a folder (not of its folders), or a pattern.

    Raises:
        InputError: it stands for none.
    """
    path = Path(source)
    if path.is_dir():
        found = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"{path} has no pictures in it; those known end in {', '.join(SUFFIXES)}.")
        return found
    if path.exists() or not glob.has_magic(source):
        return [path]
    found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207  # any pattern, also absolute
    if not found:
        raise InputError(f"{source} matches no file; quote the pattern if the shell changed it.")
    return [name for name in found if name.is_file()]
