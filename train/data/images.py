"""A picture from a file, as a model reads it: the square in its middle, scaled by averaging, on white.

Pillow reads the file (pip install -e '.[images]'). How large a picture is stands at its beginning and is looked at
first, so that nothing is unpacked that would not fit. Of several pictures in one file the first counts; 16 bits become
8; what is transparent shows white; a camera's note on which way is up is followed.
"""

import warnings
from pathlib import Path

import numpy as np

from models.files import ordinary

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
MOST = 25_000_000  # pixels


def load(path: Path, side: int) -> np.ndarray:
    """(side, side, 3), float32 from 0 to 1.   ValueError: there is no such picture, it is damaged or too large."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ValueError("to read pictures takes Pillow; in the checkout: pip install -e '.[images]'") from None
    if not path.exists():
        raise ValueError(f"{path} does not exist; --image takes a picture: {', '.join(FORMATS)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about large pictures and odd notes
        try:
            with Image.open(ordinary(path), formats=FORMATS) as image:
                _check_size(path, *image.size)
                image.draft("RGB", (2 * side, 2 * side))  # a JPEG need not be unpacked in full
                return squared(ImageOps.exif_transpose(image), side)
        except Image.DecompressionBombError:
            raise ValueError(f"{path} is too large: at most {MOST:,} pixels are read; make it smaller first") from None
        except Image.UnidentifiedImageError:
            raise ValueError(f"{path} is no picture that can be read; give one of {', '.join(FORMATS)}") from None
        except (OSError, SyntaxError, EOFError, MemoryError, IndexError) as error:
            raise ValueError(f"{path} is damaged, or no whole picture: {error}") from None


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MOST:
        what = f"{path} has {width} x {height} pixels"
        raise ValueError(f"{what}; at most {MOST:,} are read, as all must be unpacked: make it smaller first")


def squared(image, side: int) -> np.ndarray:
    """Pillow's picture -> (side, side, 3): the largest square in its middle, each pixel the mean of what it covers."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    width, height = image.size
    edge = min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    small = image.resize((side, side), Image.Resampling.BOX, (left, top, left + edge, top + edge))
    pixels = np.asarray(small, np.float32) / 255
    alpha = pixels[..., 3:] if pixels.shape[-1] == 4 else np.float32(1)
    return pixels[..., :3] * alpha + (1 - alpha)
