"""Images from files; the only place that knows about file formats, orientation and color order."""

from __future__ import annotations

import glob
import io
import os
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer
from PIL import ExifTags, ImageOps, UnidentifiedImageError
from PIL import Image as Pillow
from PIL.TiffImagePlugin import TiffImageFile

from hrnet.errors import InputError
from hrnet.io.geometry import Image, Size
from hrnet.io.warnings import suppress_warnings

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF")
SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".avifs",
)  # fmt: skip
# Larger images are refused before they are decoded: at three bytes per pixel this many are half a gigabyte.
MAX_PIXELS = 170_000_000
# Tag of a TIFF that says what bands beyond the color are: 1 and 2 are opacity. Source: TIFF 6.0, section 18.
_EXTRA_SAMPLES = 338
_INDEX_MODES = ("1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N")


def read_image(path: Path | str, *, upright: bool = True) -> Image:
    """Read an image as RGB bytes.

    An animation gives its first frame; transparent pixels become white; values of 12 or 16 bits are reduced to 8 bits.

    Args:
        path: file of the image.
        upright: True to apply the orientation tag; False for the pixels as stored (but for TIFF, which Pillow always
            rotates).

    Raises:
        InputError: the file is missing, empty, damaged, not an image, or larger than `MAX_PIXELS`.
    """
    with _opened(Path(path)) as file:
        return _to_rgb(_upright(file) if upright else file, Path(path))


def read_labeled(path: Path | str, size: Size) -> Image:
    """Read an image as it was labeled, at this height and width: with its orientation tag applied, or as stored.

    Raises:
        InputError: as for `read_image`, or the size differs either way.
    """
    image = read_image(path)
    if image.shape[:2] == size:
        return image
    if image.shape[1::-1] == size:
        # Labeled as stored: the published code, for one, ignores the orientation tag.
        stored = read_image(path, upright=False)
        if stored.shape[:2] == size:
            return stored
    raise InputError(
        f"{path} has {image.shape[1]} x {image.shape[0]} pixels, the annotations say {size[1]} x {size[0]}; "
        "label the image as stored, or with its orientation tag applied."
    )


def read_indices(path: Path | str) -> Integer[np.ndarray, "h w"]:
    """Read the numbers that an image stores, one per pixel; a palette gives the index, never its color; never rotated.

    Raises:
        InputError: as for `read_image`, or the image stores colors.
    """
    with _opened(Path(path)) as file:
        if file.mode not in _INDEX_MODES:
            raise InputError(f"{path} stores colors ({file.mode}), expected one number per pixel; save it in gray.")
        # Pillow spreads gray of two and four bits over 0 to 255; the file's tiles tell the bits.
        tiles = getattr(file, "tile", None)
        spread = {"L;2": 85, "L;4": 17}.get(str(tiles[0].args).strip("(,)'\"")) if tiles else None
        values = np.asarray(file)
        return values // spread if spread else values.astype(np.uint8) if values.dtype == bool else values


def stores_indices(path: Path | str) -> bool:
    """Return True if the header says that `read_indices` finds numbers, not colors; errors as for `image_size`."""
    with _opened(Path(path)) as file:
        return file.mode in _INDEX_MODES


def image_size(path: Path | str, *, upright: bool = True) -> Size:
    """Return height and width of an image, from its header alone; arguments and errors as for `read_image`."""
    with _opened(Path(path)) as file:
        swapped = upright and _orientation(file) in (5, 6, 7, 8)
        return (file.width, file.height) if swapped else (file.height, file.width)


# The end of a whole file: JPEG's end of image, PNG's last chunk.
_ENDS = {b"\xff\xd8\xff": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}


def looks_whole(path: Path | str) -> bool:
    """Return True for a JPEG or PNG whose last bytes are those of a complete file; False if only decoding can tell.

    Damage in the middle is not noticed.

    Raises:
        InputError: the file cannot be read.
    """
    _check_file(Path(path))
    with Path(path).open("rb") as file:
        start = file.read(4)
        file.seek(max(os.fstat(file.fileno()).st_size - 64, 0))
        # Some programs pad files with zeros.
        tail = file.read().rstrip(b"\0\r\n ")
    return any(start.startswith(magic) and tail.endswith(end) for magic, end in _ENDS.items())


@contextmanager
def _opened(path: Path) -> Iterator[Pillow.Image]:
    """Open a file; whatever fails inside the block becomes an InputError."""
    _check_file(path)
    with _decoded(path, path) as file:
        yield file


@contextmanager
def _decoded(source: Path | io.BytesIO, path: Path) -> Iterator[Pillow.Image]:
    try:
        # Pillow warns of large and of slightly wrong files; both are handled here.
        with suppress_warnings, Pillow.open(source, formats=_decoders()) as file:
            if file.width * file.height > MAX_PIXELS:
                raise _too_large(path, f" ({file.width} x {file.height} pixels)")
            yield file
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{path} is not an image this program reads ({', '.join(FORMATS)}); convert it.") from None
    except Pillow.DecompressionBombError:
        raise _too_large(path, "") from None
    except Exception as error:  # decoders fail on damaged bytes with whatever their arithmetic happens to raise
        raise InputError(f"{path} is damaged ({error}); copy or export it again.") from error


@cache
def _decoders() -> tuple[str, ...]:
    """Return the formats that this Pillow has; it fails over names that it does not know."""
    Pillow.init()
    return tuple(name for name in FORMATS if name in Pillow.OPEN)


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder where an image was expected; name a file in it.")
        if not path.exists():
            raise InputError(f"{path} does not exist; check the name.")
        if not os.access(path, os.R_OK) or not path.is_file():
            raise InputError(f"{path} cannot be read; check that it is a file you may read.")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty; copy or download it again.")
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise InputError(f"{path} cannot be read ({error.strerror}); check the name.") from None


def _too_large(path: Path, size: str) -> InputError:
    return InputError(f"{path} has too many pixels{size}; scale it down to {MAX_PIXELS // 10**6} million at most.")


def _orientation(file: Pillow.Image) -> int:
    """Return the orientation tag, 1 (upright) to 8; 1 where it is missing, damaged or applied already."""
    if file.format == "TIFF":
        return 1
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged tag is no reason to refuse the pixels
        return 1


def _upright(file: Pillow.Image) -> Pillow.Image:
    file.load()  # in some formats the tag comes after the pixels
    with suppress(Exception):  # a damaged tag is no reason to refuse the pixels
        ImageOps.exif_transpose(file, in_place=True)
    return file


def _to_rgb(image: Pillow.Image, path: Path) -> Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        # 16-bit gray, which Pillow would clip instead of scale.
        values = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        # Cameras and scanners of 12 bits store them as they are; an image of 16 bits uses more than the lowest sixteenth.
        largest = 4095 if 255 < values.max() <= 4095 else 65535
        return np.repeat((values * 255 // largest).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":
        raise InputError(f"{path} holds floating-point values of unknown range; save it with 8 bits.")
    extra = image.tag_v2.get(_EXTRA_SAMPLES, ()) if isinstance(image, TiffImageFile) else (1,)
    if image.mode in ("RGBA", "LA") and not {1, 2} & set(extra if isinstance(extra, tuple) else (extra,)):
        # A fourth band of a TIFF that does not say that it is opacity: near infrared, for example.
        return np.array(image)[..., [0, 0, 0] if image.mode == "LA" else [0, 1, 2]]
    if image.mode in ("La", "RGBa"):  # colors multiplied by their opacity
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Pillow.new("RGBA", image.size, (255, 255, 255, 255))
        image = Pillow.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def to_source(value: object) -> str | Path | Image:
    """Return an image in any of the forms that people hold it in as a path, which is not read yet, or as RGB bytes.

    Args:
        value: path; RGB array `h w 3` of type uint8; PIL image; the bytes of an image file; torch tensor `3 h w`, uint8 or
            floating-point in [0, 1].

    Raises:
        InputError: it is none of these, or cannot be read.
    """
    match value:
        case str() | Path():
            return value
        case np.ndarray():
            return check_image(value)
        case Pillow.Image():
            return _to_rgb(_upright(value.copy()), Path("a PIL image"))
        case bytes():
            with _decoded(io.BytesIO(value), Path("image bytes")) as file:
                return _to_rgb(_upright(file), Path("image bytes"))
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return _from_tensor(value)
    name = "None" if value is None else f"{type(value).__name__} {reprlib.repr(value)[:40]}"
    raise InputError(
        f"{name} is no image; give a path, an RGB array (h, w, 3) of uint8, a PIL image, the bytes of a file, or "
        "a tensor (3, h, w)."
    )


def _from_tensor(tensor: Any) -> Image:
    values = tensor.detach().cpu().float().numpy() if tensor.is_floating_point() else tensor.detach().cpu().numpy()
    if values.ndim != 3 or values.shape[0] != 3:
        raise InputError(f"A tensor image is (3, height, width), not {tuple(values.shape)}; permute it.")
    if values.dtype.kind == "f":
        if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
            raise InputError("A floating-point tensor image has values from 0 to 1; divide or denormalize it.")
        values = (values * 255).round().astype(np.uint8)
    return check_image(np.ascontiguousarray(values.transpose(1, 2, 0)))


def check_image(image: np.ndarray) -> Image:
    """Return the array itself, if it is an RGB image.

    Raises:
        InputError: its type or shape is another, or it has no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        found = f"{image.dtype} of shape {image.shape}"
        raise InputError(f"An array image is uint8 RGB of shape (height, width, 3), not {found}; convert it.")
    return image


def is_image_name(name: str) -> bool:
    """Return True for the name of an image that is not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def images_below(folder: Path) -> list[Path]:
    """Return the images of a folder and its subfolders, sorted, without hidden ones (checkpoints of notebooks, macOS)."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__MACOSX"]
        found += [Path(place, name) for name in names if is_image_name(name)]
    return sorted(found)


def find_images(source: str) -> list[Path]:
    """Return the images of a source: a file, the images of a folder (not of its subfolders), or a pattern.

    Raises:
        InputError: there are none.
    """
    path = Path(source)
    try:
        if path.is_dir():
            found = sorted(entry for entry in path.iterdir() if is_image_name(entry.name))
            if not found:
                raise InputError(f"{path} has no images in it; those known end in {', '.join(SUFFIXES)}.")
            return found
        if path.exists() or not glob.has_magic(source):
            return [path]
        found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207  # any pattern, also absolute
        if not found:
            raise InputError(f"{source} matches no file; quote the pattern if the shell changed it.")
        return [name for name in found if name.is_file()]
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror}); check the name.") from None
