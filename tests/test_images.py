"""Every odd or broken picture is read right or refused in one sentence. Oracle: the pixels that were written."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet.errors import InputError
from hrnet.images import check_image, find_images, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]  # Pillow's options differ by format
    return path


def test_a_png_is_read_to_the_byte(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", Image.fromarray(PIXELS))), PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    # How a camera that was held so stores the upright picture: the EXIF standard's table.
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
    grey = (PIXELS[..., 0].astype(np.uint16)) * 257
    found = read_image(saved(tmp_path / "a.png", Image.fromarray(grey)))
    np.testing.assert_array_equal(found, np.repeat(PIXELS[..., :1], 3, axis=2))


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    alpha = np.dstack([PIXELS, np.zeros(PIXELS.shape[:2], np.uint8)])
    alpha[:, :10, 3] = 255
    found = read_image(saved(tmp_path / "a.png", Image.fromarray(alpha, "RGBA")))
    np.testing.assert_array_equal(found[:, :10], PIXELS[:, :10])
    assert (found[:, 10:] == 255).all()


def test_a_palette_with_transparency_shows_white(tmp_path: Path) -> None:
    picture = Image.new("P", (4, 2))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((0, 0), 1)
    found = read_image(saved(tmp_path / "a.png", picture, transparency=0))
    assert tuple(found[0, 0]) == (200, 100, 50)
    assert tuple(found[1, 1]) == (255, 255, 255)


def test_cmyk_is_converted(tmp_path: Path) -> None:
    found = read_image(saved(tmp_path / "a.tif", Image.new("CMYK", (5, 4), (255, 0, 0, 0))))
    assert tuple(found[0, 0]) == (0, 255, 255)  # full cyan


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    path = tmp_path / f"a.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=[second], **lossless)
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
        ("text.jpg", b"this is no picture", "not a picture"),
        ("cut.jpg", jpeg()[:1500], "is damaged"),
        ("half.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "picture|damaged"),
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


def test_names_stand_for_pictures(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_images(str(tmp_path))] == ["a.PNG", "b.jpg"]
    assert [path.name for path in find_images(str(tmp_path / "*.jpg"))] == ["b.jpg"]
    assert find_images(str(tmp_path / "no.jpg")) == [tmp_path / "no.jpg"]  # named by whoever reads it
    with pytest.raises(InputError, match="matches no file"):
        find_images(str(tmp_path / "*.gif"))
