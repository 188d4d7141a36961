import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest

from tests.helpers import assert_close
from train.data import images
from train.data.pictures import draw, parse
from train.data.raster import png

Image = pytest.importorskip("PIL.Image", reason="pictures in files: pip install -e '.[images]'")
SCENE = parse("in the park: a big girl in red at 60 140, a small blue ball at 190 77")


def saved(path, image, **how):
    image.save(path, **how)
    return path


def gradient(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels)).astype(np.uint8)


def test_a_png_of_ours_is_read_as_it_was_drawn(tmp_path):
    picture = draw(SCENE, 32)
    (tmp_path / "a.png").write_bytes(png(picture))
    assert Image.open(tmp_path / "a.png").size == (32, 32)
    np.testing.assert_allclose(images.load(tmp_path / "a.png", 32), picture, atol=0.5 / 255 + 1e-6)
    (tmp_path / "b.png").write_bytes(png(draw(SCENE, 256)))
    apart = np.abs(images.load(tmp_path / "b.png", 32) - picture)
    assert apart.mean() < 0.002  # half a pixel to the side it is 0.01
    assert apart.max() < 0.2  # where the edges of two shapes cross one pixel


def test_the_square_in_the_middle_counts_and_each_pixel_is_the_mean_of_what_it_covers(tmp_path):
    pixels = gradient(16, 40)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    expected = pixels[:, 12:28].reshape(4, 4, 4, 4, 3).mean(axis=(1, 3)) / 255
    assert_close(images.load(path, 4), expected, 3e-3)  # Pillow rounds to 8 bits
    tall = saved(tmp_path / "b.png", Image.fromarray(pixels.swapaxes(0, 1)))
    assert_close(images.load(tall, 4), expected.swapaxes(0, 1), 3e-3)
    assert images.load(saved(tmp_path / "c.png", Image.fromarray(pixels[:1, :1])), 4).shape == (4, 4, 3)


def test_sixteen_bits_become_eight(tmp_path):
    grey = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    path = saved(tmp_path / "a.png", Image.fromarray(grey))
    assert_close(images.load(path, 8), np.repeat(grey[..., None] / 65535, 3, axis=-1), 5e-3)
    colours = (np.random.default_rng(0).random((4, 4, 3)) * 65535).astype(">u2")
    (tmp_path / "b.png").write_bytes(png16(colours))
    assert_close(images.load(tmp_path / "b.png", 4), colours.astype(float) / 65535, 5e-3)


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits a colour, which Pillow reads and does not write."""
    H, W, _ = pixels.shape
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", W, H, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_what_is_transparent_shows_white(tmp_path):
    pixels = gradient(8, 8, 4)
    path = saved(tmp_path / "a.png", Image.fromarray(pixels))
    alpha = pixels[..., 3:] / 255
    assert_close(images.load(path, 8), pixels[..., :3] / 255 * alpha + 1 - alpha, 5e-3)
    palette = Image.new("P", (4, 4))
    palette.putpalette([200, 10, 10, 0, 0, 0])
    path = saved(tmp_path / "b.gif", palette, transparency=0)
    assert (images.load(path, 4) == 1).all()


def test_grey_and_palettes_become_colours(tmp_path):
    grey = saved(tmp_path / "a.png", Image.fromarray(gradient(8, 8)[..., 0]))
    read = images.load(grey, 8)
    assert (read[..., 0] == read[..., 1]).all() and read.std() > 0.1
    few = Image.fromarray(gradient(8, 8)).quantize(256)
    assert_close(images.load(saved(tmp_path / "b.png", few), 8), np.asarray(few.convert("RGB")) / 255, 1e-6)


def test_of_an_animation_the_first_picture_counts(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for name in ("a.gif", "b.png"):
        path = saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
        assert_close(images.load(path, 4), np.tile([1.0, 0, 0], (4, 4, 1)), 1e-6)


def test_a_camera_says_which_way_is_up(tmp_path):
    pixels = gradient(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    path = saved(tmp_path / "a.png", Image.fromarray(pixels), exif=exif)
    assert_close(images.load(path, 8), np.rot90(pixels, -1) / 255, 1e-6)


def test_a_long_strip_is_read(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (20_000, 30), (0, 255, 0)))
    assert_close(images.load(path, 32), np.tile([0, 1.0, 0], (32, 32, 1)), 1e-6)


def refused(path) -> str:
    with pytest.raises(ValueError) as error:
        images.load(path, 32)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_what_is_no_picture_is_named(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.png")
    assert "folder" in refused(tmp_path)
    (tmp_path / "a.png").write_text("Once there was a girl.")
    assert "is no picture that can be read; give one of PNG" in refused(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    assert "is no picture" in refused(tmp_path / "b.png")


@pytest.mark.parametrize("name", ["png", "jpg", "gif"])
def test_a_truncated_picture_is_named_wherever_it_ends(name, tmp_path):
    whole = io.BytesIO()
    Image.fromarray(gradient(64, 64)).save(whole, {"jpg": "JPEG"}.get(name, name.upper()))
    data, path = whole.getvalue(), tmp_path / f"a.{name}"
    for share in (0.02, 0.2, 0.5, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        said = refused(path)
        assert "is damaged, or no whole picture" in said or "is no picture" in said


def test_damaged_bytes_are_named_or_read(tmp_path):
    data, path = bytearray(png(draw(SCENE, 32))), tmp_path / "a.png"
    for place in range(8, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            assert images.load(path, 32).shape == (32, 32, 3)
        except ValueError as error:
            assert str(path) in str(error)


@pytest.mark.parametrize("size", [(20_000, 20_000), (5_001, 5_000)])
def test_a_huge_picture_is_refused_by_its_first_bytes(size, tmp_path):
    """In a process that may take no more than 40 MB beyond what its imports took."""
    head = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(size[1] * (3 * size[0] + 1)) if size[0] < 6000 else b"")
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) +
                                     chunk(b"IEND", b""))  # fmt: skip
    code = f"""
import resource
from pathlib import Path
from PIL import Image, PngImagePlugin
from train.data import images
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    images.load(Path({str(tmp_path / "a.png")!r}), 32)
except ValueError as error:
    print(error)
assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "25,000,000" in done.stdout and "make it smaller first" in done.stdout


def test_without_pillow_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ValueError, match=r"takes Pillow; in the checkout: pip install -e '\.\[images\]'"):
        images.load(tmp_path / "a.png", 32)
