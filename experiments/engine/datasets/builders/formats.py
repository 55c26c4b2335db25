"""Parsers of published binary formats, and the encoding of pictures as PNG."""

import gzip
import io
import math
import pathlib
import tarfile
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image

from experiments.engine import errors

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def png(pixels: np.ndarray) -> bytes:
  """Encodes uint8 [h, w, 1 or 3] as PNG."""
  if pixels.shape[-1] == 1:
    pixels = pixels[..., 0]
  return _as_png(Image.fromarray(pixels))


def _as_png(image: Image.Image) -> bytes:
  stream = io.BytesIO()
  image.save(stream, "PNG")
  return stream.getvalue()


def as_rgb(encoded: bytes, where: str) -> bytes:
  """Returns a picture that decodes to RGB: unchanged if it does, else as PNG.

  A palette or grey picture is re-encoded here because TFDS's decoder without
  TensorFlow would hand out palette indices, or one channel instead of three.

  Args:
    encoded: the bytes of a PNG or JPEG file.
    where: its name, for the error.

  Raises:
    UserError: it cannot be decoded, or has 16 bits per channel.
  """
  return _in_mode("RGB", encoded, where)


def as_grey(encoded: bytes, where: str) -> bytes:
  """As `as_rgb`, for a picture that decodes to one channel."""
  return _in_mode("L", encoded, where)


def _in_mode(mode: str, encoded: bytes, where: str) -> bytes:
  try:
    with Image.open(io.BytesIO(encoded)) as image:
      if image.mode == mode:
        image.load()
        return encoded
      if image.mode.startswith(("I", "F")):
        raise errors.UserError(
          f"{where} has more than 8 bits per channel; convert it to 8 bits"
        )
      return _as_png(image.convert(mode))
  except (OSError, SyntaxError, Image.DecompressionBombError) as error:
    raise errors.UserError(
      f"{where} is not a readable PNG or JPEG picture ({error}); repair or remove it"
    ) from error


def read_idx(path: pathlib.Path) -> np.ndarray:
  """Reads a gzipped idx file of unsigned bytes (the format of MNIST).

  Big-endian header: two zero bytes, the type (8: unsigned byte), the number of
  dimensions, then each dimension in four bytes; then the values in row order.

  Raises:
    UserError: another type, or fewer or more values than the header states.
  """
  with gzip.open(path, "rb") as stream:
    content = stream.read()
  if len(content) < 4 or content[:3] != b"\x00\x00\x08":
    raise errors.UserError(f"{path} is not an idx file of unsigned bytes")
  start = 4 + 4 * content[3]
  shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
  if len(content) - start != math.prod(shape):
    raise errors.UserError(
      f"{path} states shape {shape} but holds {len(content) - start} values: "
      "it is damaged"
    )
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def tar_members(path: pathlib.Path) -> Iterator[tuple[str, IO[bytes]]]:
  """Streams over (name, open file) of the files in a tar archive, unpacking nothing."""
  with tarfile.open(path, "r|*") as archive:
    for member in archive:
      content = archive.extractfile(member)
      if content is not None:
        yield member.name.removeprefix("./"), content


def read_member(path: pathlib.Path, name: str) -> bytes:
  """Returns the content of the file in a tar archive whose path ends with `name`."""
  for found, content in tar_members(path):
    if found.endswith(name):
      return content.read()
  raise errors.UserError(f"{path} holds no file {name}: it is another archive")


def records(stream: IO[bytes], size: int, where: str) -> Iterator[bytes]:
  """Cuts a stream into records of `size` bytes.

  Raises:
    UserError: the last record is incomplete.
  """
  while record := stream.read(size):
    if len(record) != size:
      raise errors.UserError(
        f"{where} ends with {len(record)} bytes of a record of {size}: it is damaged"
      )
    yield record
