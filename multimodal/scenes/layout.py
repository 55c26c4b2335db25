"""What stands where in a scene of several objects.

Object 0 is the main object: it alone is large, so that it can be named from the picture
("the large one") and its shape, texture and colour can serve as the label of a scene.
The others are small or medium. Each object has a cell of its own, cut out of the
picture by two levels of random straight lines, and stands inside it with all its
points, so no object hides another and none leaves the picture.

Shape, colour, texture, size, pose, number of objects and background are uniform and
independent (the size of the main object is fixed). Places depend on sizes and number:
what is large has less room to move.

Further takes show the same objects in other poses, elsewhere before another background:
the group is moved as a whole, so that every relation stays.
"""

from typing import NamedTuple

import numpy as np

from multimodal.scenes import draws
from multimodal.scenes.materials import COLOURS, TEXTURES
from multimodal.scenes.outlines import SHAPES

SIZES = ("small", "medium", "large")
# Pose: the side of the object that is painted lighter.
POSES = ("right", "bottom", "left", "top")
BACKGROUNDS = ("dark", "light", "gradient", "waves")
RELATIONS = ("left of", "right of", "above", "below")
MAX_OBJECTS = 4

# Radius of the circle of equal area in picture sides, least and greatest, by size.
RADII = np.array([(0.088, 0.095), (0.118, 0.128), (0.165, 0.18)], np.float32)
# Every point of a shape is nearer to its centre than this many such radii (the tips of
# a triangle are at 1.555). A large and a medium object must fit side by side.
REACH = np.float32(1.6)
# With this zoom the largest object on its own just fits into the picture.
MAX_ZOOM = 1.73
# Centres at least this far apart, in picture sides, make a relation. Two objects are
# always at least REACH * (0.088 + 0.118) apart along one axis, so some relation holds.
MARGIN = np.float32(0.15)

# The bands of the slots of a scene of 1, 2, 3 or 4 objects.
_BANDS = np.array([(0, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 1, 1)])
_STREAM = 1
_TAKE_STREAM = 2**32  # and from here on two streams for each take but the first
_DRAWS = 4 + 10 * MAX_OBJECTS + 3 + 7


class Crowd(NamedTuple):
  """Which scenes there are; what is not named here always varies.

  Attributes:
    counts: least and greatest number of objects, within 1 to MAX_OBJECTS.
    poses: those that occur, of POSES.
    backgrounds: those that occur, of BACKGROUNDS.
    zoom: factor of the radii, from 1 to MAX_ZOOM; only scenes of one object have room
      for another one than 1.
  """

  counts: tuple[int, int] = (1, MAX_OBJECTS)
  poses: tuple[str, ...] = POSES
  backgrounds: tuple[str, ...] = BACKGROUNDS
  zoom: float = 1.0


CROWD = Crowd()


class Layout(NamedTuple):
  """Scenes as arrays: n scenes with MAX_OBJECTS = m places for objects each.

  Where there is no object, indices are -1 and lengths 0. Lengths are in sides of the
  picture, x from the left and y from the top.

  Attributes:
    number: int32 [n], objects in the scene: places 0 to number - 1 are taken.
    present: bool [n, m].
    shape, colour, texture, size, pose: int32 [n, m], indices into SHAPES, COLOURS,
      TEXTURES, SIZES, POSES.
    radius: float32 [n, m], of the circle of equal area, within RADII of the size,
      zoomed.
    x, y: float32 [n, m], the centre.
    angle: float32 [n, m], turn in radians: a quarter turn for each pose, and up to
      0.4 quarters to either side, so that poses are told apart.
    background: int32 [n], index into BACKGROUNDS.
    backdrop: float32 [n, 7] in [0, 1): brightness, tint (3), direction, frequency and
      phase of the background.
  """

  number: np.ndarray
  present: np.ndarray
  shape: np.ndarray
  colour: np.ndarray
  texture: np.ndarray
  size: np.ndarray
  pose: np.ndarray
  radius: np.ndarray
  x: np.ndarray
  y: np.ndarray
  angle: np.ndarray
  background: np.ndarray
  backdrop: np.ndarray


def take_stream(take: int) -> int:
  """Stream of the draws of a take's layout; the next one is that of its noise.

  Raises:
    ValueError: a negative take.
  """
  if take < 0:
    raise ValueError(f"takes of a scene have numbers from 0, not {take}")
  return _TAKE_STREAM + 2 * take if take else _STREAM


def compose(
  ids: np.ndarray, *, seed: int = 0, level: Crowd = CROWD, take: int = 0
) -> Layout:
  """Returns what is in each scene of several objects.

  Args:
    ids: [n] integers, not negative; see `split_ids`.
    seed: another seed gives another world.
    level: which scenes there are. The same id has the same objects at each, as far as
      the level allows.
    take: number of the picture, from 0. All have the same objects of the same radii,
      as they stand to each other; poses, background and the place of the group are
      drawn anew, independently of other takes.

  Raises:
    ValueError: the level names no scene, or a pose or background that does not exist;
      or a negative take.
  """
  _check(level)
  ids = np.asarray(ids)
  drawn = draws.uniform(seed, ids, _DRAWS, _STREAM)
  scene, objects, cuts, backdrop = np.split(
    drawn, np.cumsum([4, 10 * MAX_OBJECTS, 3]), axis=1
  )
  objects = objects.reshape(len(drawn), 10, MAX_OBJECTS)
  least, most = level.counts
  count = (least + scene[:, 0] * (most - least + 1)).astype(np.int32)
  present = np.arange(MAX_OBJECTS) < count[:, None]

  if take:
    anew = draws.uniform(seed, ids, 10 + 2 * MAX_OBJECTS, take_stream(take))
    scene[:, 1], move, backdrop = anew[:, 0], anew[:, 1:3], anew[:, 3:10]
    objects[:, 5:7] = anew[:, 10:].reshape(len(ids), 2, MAX_OBJECTS)

  size = (objects[:, 3] * 2).astype(np.int32)
  size[:, 0] = SIZES.index("large")
  low, high = RADII[size, 0], RADII[size, 1]
  radius = (low + (high - low) * objects[:, 4]) * np.float32(level.zoom) * present
  poses = np.array([POSES.index(name) for name in level.poses], np.int32)
  pose = poses[(objects[:, 5] * len(poses)).astype(np.int32)]
  angle = (pose + 0.8 * (objects[:, 6] - np.float32(0.5))) * np.float32(np.pi / 2)
  x, y = _places(scene, objects[:, 7:], cuts, count, radius)
  if take:
    x, y = (_moved(z, radius, move[:, axis]) for axis, z in enumerate((x, y)))
  kinds = np.array([BACKGROUNDS.index(name) for name in level.backgrounds], np.int32)

  def index(draw: np.ndarray, choices: tuple[str, ...]) -> np.ndarray:
    return np.where(present, (draw * len(choices)).astype(np.int32), -1)

  return Layout(
    number=count,
    present=present,
    shape=index(objects[:, 0], SHAPES),
    colour=index(objects[:, 1], COLOURS),
    texture=index(objects[:, 2], TEXTURES),
    size=np.where(present, size, -1),
    pose=np.where(present, pose, -1),
    radius=radius,
    x=x * present,
    y=y * present,
    angle=angle.astype(np.float32) * present,
    background=kinds[(scene[:, 1] * len(kinds)).astype(np.int32)],
    backdrop=backdrop,
  )


def relations(layout: Layout) -> np.ndarray:
  """Returns which relations hold.

  Returns:
    bool [n, m, m, 4]: at [s, i, j, r], object i of scene s is RELATIONS[r] object j,
    that is, its centre is at least MARGIN further that way. At most two of the four
    hold for a pair, and at least one for any two objects that are present.
  """
  right = layout.x[:, :, None] - layout.x[:, None, :]
  down = layout.y[:, :, None] - layout.y[:, None, :]
  both = layout.present[:, :, None] & layout.present[:, None, :]
  further = np.stack([-right, right, -down, down], axis=-1) >= MARGIN
  return further & both[..., None]


def _check(level: Crowd) -> None:
  least, most = level.counts
  if not 1 <= least <= most <= MAX_OBJECTS:
    raise ValueError(
      f"a scene has {least} to {most} objects in level.counts; choose numbers from 1 "
      f"to {MAX_OBJECTS}, the smaller one first"
    )
  room = MAX_ZOOM if most == 1 else 1
  if not 1 <= level.zoom <= room:
    raise ValueError(
      f"level.zoom is {level.zoom}; for scenes of up to {most} objects choose a number "
      f"from 1 to {room}"
    )
  for field, known in (("poses", POSES), ("backgrounds", BACKGROUNDS)):
    chosen = getattr(level, field)
    if not chosen or not set(chosen) <= set(known):
      raise ValueError(f"level.{field} is {chosen}; choose some of {known}")


def _places(
  scene: np.ndarray,
  objects: np.ndarray,
  cuts: np.ndarray,
  count: np.ndarray,
  radius: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
  """Centres (x, y), each [n, m], so that discs of REACH radii never meet.

  Two bands side by side, of one or two objects each; the objects of a band stand one
  behind the other. A line between two neighbours may lie anywhere where both fit.

  Args:
    scene: [n, 4] draws; the last two: bands upright or not, which one comes first.
    objects: [n, 3, m] draws: order of the objects, place across and along the band.
    cuts: [n, 3] draws: line between the bands, and inside each.
    count: [n] objects.
    radius: [n, m], 0 for an object that is absent.
  """
  reach = REACH * radius
  # Objects take the slots in random order, those that are absent last.
  order = np.argsort(np.where(radius > 0, objects[:, 0], 2), axis=1, kind="stable")
  slot = np.argsort(order, axis=1, kind="stable")
  band = np.take_along_axis(_BANDS[count - 1], slot, axis=1)
  flip = ((scene[:, 3] < 0.5) & (count > 1))[:, None]
  band = np.where(flip, 1 - band, band) % 2  # absent ones have no reach: anywhere

  member = band[:, None, :] == np.arange(2)[None, :, None]  # [n, band, object]
  room = 2 * np.where(member, reach[:, None, :], 0).max(2)
  line = _cut(room[:, 0], room[:, 1], cuts[:, 0])
  edges = np.stack([np.zeros_like(line), line, np.ones_like(line)], axis=1)
  low = np.take_along_axis(edges, band, axis=1)
  high = np.take_along_axis(edges, band + 1, axis=1)
  across = low + reach + (high - low - 2 * reach) * objects[:, 1]

  low, high = _halves(band, slot, reach, np.take_along_axis(cuts[:, 1:], band, axis=1))
  along = low + reach + (high - low - 2 * reach) * objects[:, 2]
  upright = (scene[:, 2] < 0.5)[:, None]
  return np.where(upright, across, along), np.where(upright, along, across)


def _moved(centre: np.ndarray, radius: np.ndarray, draw: np.ndarray) -> np.ndarray:
  """Centres [n, m] along one axis, the group moved to a place uniform in its room."""
  reach = REACH * radius
  low = np.where(radius > 0, centre - reach, 1).min(1)
  high = np.where(radius > 0, centre + reach, 0).max(1)
  shift = (1 - high + low) * draw - low
  return centre + shift[:, None]


def _halves(
  band: np.ndarray, slot: np.ndarray, reach: np.ndarray, draw: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Where each object's part of its band begins and ends; the lower slot goes first."""
  mate = (band[:, :, None] == band[:, None, :]) & ~np.eye(MAX_OBJECTS, dtype=bool)
  mate &= (reach > 0)[:, None, :]
  own = 2 * reach
  other = 2 * np.where(mate, reach[:, None, :], 0).max(2)
  second = (mate & (slot[:, None, :] < slot[:, :, None])).any(2)
  line = _cut(np.where(second, other, own), np.where(second, own, other), draw)
  zero, one = np.float32(0), np.float32(1)
  return np.where(second, line, zero), np.where(second, one, line)


def _cut(first: np.ndarray, second: np.ndarray, draw: np.ndarray) -> np.ndarray:
  """A line that leaves at least the length `first` before it and `second` behind it.

  Where there is nothing behind it, it lies at the end; nothing before, at the start.
  """
  cut = first + (1 - first - second) * draw
  cut = np.where(first == 0, np.float32(0), cut)
  return np.where(second == 0, np.float32(1), cut)
