"""The outlines of the shapes: signed distances, all scaled to equal area."""

from collections.abc import Callable

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "crescent", "heart")


def _circle(x, y):
  return np.hypot(x, y) - 1


def _square(x, y):
  return np.maximum(np.abs(x), np.abs(y)) - 1


def _triangle(x, y):
  slanted = np.float32(np.sqrt(3) / 2) * np.abs(x) - 0.5 * y
  return np.maximum(slanted, y) - 0.5


def _star(x, y):
  # Five points: fold into half a wedge, then the line from a tip (1, 0) to the inner
  # corner at radius 0.45 and angle pi / 5.
  wedge = np.float32(2 * np.pi / 5)
  angle = np.abs(np.mod(np.arctan2(y, x) + wedge / 2, wedge) - wedge / 2)
  radius = np.hypot(x, y)
  inner = 0.45 * np.exp(1j * np.pi / 5)
  normal = -1j * (inner - 1) / abs(inner - 1)
  a, b = np.float32(normal.real), np.float32(normal.imag)
  return a * (radius * np.cos(angle) - 1) + b * radius * np.sin(angle)


def _cross(x, y):
  x, y = np.abs(x), np.abs(y)
  return np.minimum(np.maximum(x - 1, y - 0.33), np.maximum(x - 0.33, y - 1))


def _ring(x, y):
  return np.abs(np.hypot(x, y) - 0.78) - 0.22


def _crescent(x, y):
  return np.maximum(np.hypot(x, y) - 1, 0.85 - np.hypot(x - 0.55, y))


def _heart(x, y):
  # A square standing on a corner with a half disc on each of its upper sides.
  x, y = np.float32(np.sqrt(0.5)) * (x - y), np.float32(np.sqrt(0.5)) * (-x - y)
  square = np.maximum(np.abs(x), np.abs(y))
  left, right = np.hypot(x - 0.5, y), np.hypot(x, y - 0.5)
  return np.minimum(square, np.minimum(left, right)) - 0.5


# Signed distance (negative inside) to an outline of size about 1, and the factor that
# gives it the area of the unit disc (`test_shapes_have_equal_area` checks them).
Outline = Callable[[np.ndarray, np.ndarray], np.ndarray]
OUTLINES: dict[str, tuple[Outline, float]] = {
  "circle": (_circle, 1.0),
  "square": (_square, 0.886),
  "triangle": (_triangle, 1.555),
  "star": (_star, 1.541),
  "cross": (_cross, 1.194),
  "ring": (_ring, 1.207),
  "crescent": (_crescent, 1.458),
  "heart": (_heart, 1.326),
}
