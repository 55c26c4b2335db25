"""Decodes encoded pictures into one uint8 array, brought to one size."""

import concurrent.futures
import io
import os
from collections.abc import Sequence

import numpy as np
from PIL import Image

from experiments.engine import errors

# Threads pay off only where decoding outweighs the interpreter: at 100 us a picture
# (3 kB) two of them were slower than one.
_BYTES_WORTH_A_THREAD = 8_000
_CHUNK = 64


class UndecodableError(errors.UserError):
  """A picture that cannot be decoded."""


def require_memory(needed: float, name: str) -> None:
  """Refuses what cannot be held in memory.

  Args:
    needed: bytes.
    name: of the data set.

  Raises:
    UserError: the machine has less memory than that.
  """
  memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  if needed > memory:
    raise errors.UserError(
      f"the pictures of '{name}' take {needed / 1e9:.0f} GB and are held in memory, "
      f"but this machine has {memory / 1e9:.0f} GB; take a part of the split, as "
      "train[:10%], or a smaller image_size"
    )


def decode_pictures(
  pictures: Sequence[bytes],
  *,
  channels: int,
  image_size: int | tuple[int, int] | None,
  name: str,
) -> np.ndarray:
  """Decodes PNG or JPEG pictures to one array.

  Args:
    pictures: encoded.
    channels: 1 for grey, 3 for RGB; pictures of other modes are converted.
    image_size: side of the result; of other pictures the centre square is scaled
      (bilinear, with antialiasing). (height, width) scales the whole picture to these
      instead, with its proportions changed. None keeps their common size.
    name: of the data set, for errors.

  Returns:
    uint8 [n, height, width, channels].

  Raises:
    UserError: sizes vary and `image_size` is None, or there is not enough memory.
    UndecodableError: a picture cannot be decoded.
  """
  mode = "L" if channels == 1 else "RGB"
  if not pictures:
    size = image_size or 0
    sides = size if isinstance(size, tuple) else (size, size)
    return np.zeros((0, *sides, channels), np.uint8)
  decode = lambda picture: _decode(picture, mode, image_size, name)
  first = decode(pictures[0])
  require_memory(len(pictures) * first.nbytes, name)
  images = np.empty((len(pictures), *first.shape), np.uint8)

  def decode_chunk(start: int) -> None:
    for i in range(start, min(start + _CHUNK, len(pictures))):
      pixels = decode(pictures[i])
      if pixels.shape != first.shape:
        raise errors.UserError(
          f"pictures of '{name}' vary in size ({_size(first)}, {_size(pixels)}, ...); "
          "give image_size to bring them to one"
        )
      images[i] = pixels

  starts = range(0, len(pictures), _CHUNK)
  mean_bytes = sum(map(len, pictures)) / len(pictures)
  threads = (os.cpu_count() or 1) if mean_bytes >= _BYTES_WORTH_A_THREAD else 1
  if threads == 1:
    for start in starts:
      decode_chunk(start)
  else:
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
      for _ in pool.map(decode_chunk, starts):
        pass
  return images


def _size(pixels: np.ndarray) -> str:
  return f"{pixels.shape[1]}x{pixels.shape[0]}"


def _decode(
  picture: bytes, mode: str, size: int | tuple[int, int] | None, name: str
) -> np.ndarray:
  try:
    with Image.open(io.BytesIO(picture)) as opened:
      image = opened if opened.mode == mode else opened.convert(mode)
      pixels = np.asarray(image if size is None else _scaled(image, size))
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise UndecodableError(
      f"'{name}' holds a picture that cannot be decoded ({error}); prepare it again"
    ) from error
  return pixels if pixels.ndim == 3 else pixels[..., None]


def _scaled(image: Image.Image, size: int | tuple[int, int]) -> Image.Image:
  if not isinstance(size, tuple):
    return fit(image, size)
  sides = size[::-1]  # Pillow's order
  if image.size == sides:
    return image
  return image.resize(sides, Image.Resampling.BILINEAR)


def fit(image: Image.Image, size: int) -> Image.Image:
  """Crops the centre square and scales it to `size`; keeps what fits already."""
  width, height = image.size
  if (width, height) == (size, size):
    return image
  side = min(width, height)
  left, top = (width - side) // 2, (height - side) // 2
  square = image.crop((left, top, left + side, top + side))
  return square.resize((size, size), Image.Resampling.BILINEAR)


def resize(images: np.ndarray, size: int) -> np.ndarray:
  """Scales and crops uint8 [n, height, width, 1 or 3] to [n, size, size, ...]."""
  grey = images.shape[-1] == 1
  resized = [
    np.asarray(fit(Image.fromarray(image[..., 0] if grey else image), size))
    for image in images
  ]
  return np.stack(resized).reshape(len(images), size, size, images.shape[-1])
