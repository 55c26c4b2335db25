"""What objects are made of: colours and textures."""

import numpy as np

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
TEXTURES = ("plain", "striped", "chequered")

# Of COLOURS, in [0, 1].
RGB = np.array(
  [
    (0.90, 0.15, 0.15),
    (0.98, 0.55, 0.10),
    (0.95, 0.90, 0.20),
    (0.20, 0.75, 0.25),
    (0.20, 0.85, 0.90),
    (0.20, 0.35, 0.95),
    (0.60, 0.25, 0.85),
    (0.98, 0.60, 0.75),
  ],
  np.float32,
)
