"""Every odd or broken image is read right or refused in one sentence. Oracle: the pixels that were written."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.io.images import check_image, find_images, image_size, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)  # type: ignore[arg-type]  # Pillow's options differ by format
    return path


def test_a_png_is_read_to_the_byte(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS))), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # How a camera that was held so stores the upright image: the EXIF standard's table.
    stored = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, 1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS, 3),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(read_image(path), PIXELS)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    gray = (PIXELS[..., 0].astype(np.uint16)) * 257
    found = read_image(saved(tmp_path / "a.png", Image.fromarray(gray)))
    np.testing.assert_array_equal(found, np.repeat(PIXELS[..., :1], 3, axis=2))


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    alpha = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    alpha[:, :10, 3] = 255
    found = read_image(saved(tmp_path / "a.png", Image.fromarray(alpha, "RGBA")))
    np.testing.assert_array_equal(found[:, :10], PIXELS[:, :10])
    assert (found[:, 10:] == 255).all()


def test_a_palette_with_transparency_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (4, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((0, 0), 1)
    found = read_image(saved(tmp_path / "a.png", image, transparency=0))
    assert tuple(found[0, 0]) == (200, 100, 50)
    assert tuple(found[1, 1]) == (255, 255, 255)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    found = read_image(saved(tmp_path / "a.tif", Image.new("CMYK", (5, 4), (255, 0, 0, 0))))
    assert tuple(found[0, 0]) == (0, 255, 255)  # full cyan


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=[second], lossless=True)  # which gif does not heed
    assert tuple(read_image(path)[4, 4]) == (255, 0, 0)


def test_extreme_shapes_are_read(tmp_path: Path) -> None:
    assert read_image(saved(tmp_path / "a.png", Image.new("RGB", (1, 1), (9, 8, 7)))).tolist() == [[[9, 8, 7]]]
    assert read_image(saved(tmp_path / "b.png", Image.new("L", (30000, 3), 5))).shape == (3, 30000, 3)


def test_too_many_pixels_are_refused_unread(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (30000, 30000)))
    with pytest.raises(InputError, match="too many pixels"):
        read_image(path)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).resize((300, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.jpg", b"", "is empty"),
        ("text.jpg", b"this is no image", "not an image"),
        ("cut.jpg", jpeg()[:1500], "is damaged"),
        ("half.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "image|damaged"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as raised:
        read_image(path)
    assert name in str(raised.value)


def test_a_cut_png_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(PIXELS).resize((200, 200)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged"):
        read_image(path)


def test_missing_files_folders_and_floats_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "no.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    path = saved(tmp_path / "a.tif", Image.new("F", (3, 3), 0.5))
    with pytest.raises(InputError, match="floating-point"):
        read_image(path)


def test_arrays_are_checked() -> None:
    assert check_image(PIXELS) is PIXELS
    for wrong in (PIXELS.astype(float), PIXELS[..., :2], PIXELS[:0]):
        with pytest.raises(InputError, match="uint8 RGB"):
            check_image(wrong)


def test_names_stand_for_images(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_images(str(tmp_path))] == ["a.PNG", "b.jpg"]
    assert [path.name for path in find_images(str(tmp_path / "*.jpg"))] == ["b.jpg"]
    assert find_images(str(tmp_path / "no.jpg")) == [tmp_path / "no.jpg"]  # named by whoever reads it
    with pytest.raises(InputError, match="matches no file"):
        find_images(str(tmp_path / "*.gif"))


@pytest.mark.parametrize("kind", ["jpg", "tif", "webp"])
def test_other_formats_are_turned_and_measured_too(tmp_path: Path, kind: str) -> None:
    """Orientation 6: stored lying, to be turned by 90 degrees. Oracle: the same file without the tag, turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lossless = {"lossless": True} if kind == "webp" else {}
    plain = read_image(saved(tmp_path / f"plain.{kind}", Image.fromarray(PIXELS), **lossless))
    path = saved(tmp_path / f"turned.{kind}", Image.fromarray(PIXELS), exif=exif, **lossless)
    np.testing.assert_array_equal(read_image(path), np.rot90(plain, -1))
    assert image_size(path) == (30, 20)
    if kind != "tif":  # which Pillow turns by itself
        np.testing.assert_array_equal(read_image(path, upright=False), plain)
        assert image_size(path, upright=False) == (20, 30)


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "ppm", "tif", "webp", "jpg"])
def test_sizes_come_from_the_header(tmp_path: Path, kind: str) -> None:
    assert image_size(saved(tmp_path / f"a.{kind}", Image.fromarray(PIXELS))) == (20, 30)
    with pytest.raises(InputError, match="does not exist"):
        image_size(tmp_path / "no.png")


def png(width: int, height: int, color: int, rows: bytes) -> bytes:
    """A PNG of 16 bits, which Pillow cannot write in color."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_of_color_are_scaled(tmp_path: Path) -> None:
    deep = PIXELS.astype(">u2") * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    (tmp_path / "a.png").write_bytes(png(30, 20, 2, rows))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)


def test_gray_black_and_white_and_alpha_show_as_rgb(tmp_path: Path) -> None:
    gray = read_image(saved(tmp_path / "gray.png", Image.fromarray(PIXELS[..., 0])))
    np.testing.assert_array_equal(gray, PIXELS[..., :1].repeat(3, 2))
    bits = read_image(saved(tmp_path / "bits.png", Image.fromarray(PIXELS[..., 0] > 127)))
    np.testing.assert_array_equal(bits[..., 0], np.where(PIXELS[..., 0] > 127, 255, 0))
    both = np.dstack([PIXELS[..., 0], np.full(PIXELS.shape[:2], 128, np.uint8)])
    found = read_image(saved(tmp_path / "la.png", Image.fromarray(both, "LA"))).astype(float)
    expected = PIXELS[..., 0] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(found[..., 0] - expected).max() <= 1  # one rounding of the blend


def test_a_name_that_is_too_long_is_named() -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_image("a" * 5000 + ".jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.fromarray(PIXELS))
    path.chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        read_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF"])
def test_damaged_bytes_never_raise_anything_else(tmp_path: Path, kind: str) -> None:
    """Bytes changed and files cut at random: an image or one sentence, and no warning (which would fail this test)."""
    if kind not in Image.registered_extensions().values() or kind not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {kind}")
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind)
    whole = np.frombuffer(buffer.getvalue(), np.uint8)
    refused: list[str] = []
    for trial in range(60):
        damaged = whole.copy()
        places = rng.integers(0, min(len(whole), 400), int(rng.choice([1, 3, 20])))
        damaged[places] = rng.integers(0, 256, len(places))
        path = tmp_path / f"{trial}.{kind.lower()}"
        path.write_bytes(damaged[: int(rng.integers(1, len(whole))) if trial % 3 == 0 else None].tobytes())
        for read in (read_image, image_size):
            try:
                read(path)
            except InputError as error:
                refused.append(str(error))
    assert len(refused) > 5
    assert all(str(tmp_path) in message for message in refused)
