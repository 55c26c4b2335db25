"""Pictures of trained towers on test examples, for the page of a run."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.engine import errors
from experiments.engine.evaluation import paired
from experiments.engine.pretraining.pairs import Images, PairSet, Texts
from experiments.engine.pretraining.tower_evaluation import embed_split
from experiments.engine.pretraining.tower_method import Reading
from experiments.engine.reporting import pictures, tower_pictures
from multimodal import scenes
from multimodal.towers import Towers

_QUERIES, _FOUND = 6, 5
_MAPPED = 500  # more points hide each other
_COMPARED = 64  # rows of a matrix that can be told apart


def illustrate_towers(
  network: Towers,
  readings: Mapping[str, Reading],
  test_set: PairSet,
  variables: Any,
  folder: pathlib.Path,
) -> None:
  """Embeds the test split and writes its pictures into the folder of the run.

  Args:
    network: the towers.
    readings: of their columns.
    test_set: what is shown.
    variables: {"params", "batch_stats"} of the towers.
    folder: of the run.

  Raises:
    UserError: embeddings are not finite, matplotlib is missing, or the folder cannot be
      written.
  """
  split = embed_split(network, readings, variables, test_set)
  pictures.write_pictures(draw_towers(split, test_set), folder)


def draw_towers(split: paired.Split, pairs: PairSet) -> list[pictures.Picture]:
  """Pictures of an embedded split: what is found, a map, the similarities.

  Queries and examples are taken evenly over the split, whatever they look like.

  Args:
    split: shared embeddings of `pairs` by tower.
    pairs: the examples; the sheets of what is found need pictures and texts.

  Raises:
    UserError: embeddings are not finite, or matplotlib is missing.
  """
  for tower, table in split.towers.items():
    if not np.isfinite(table.parts["shared"]).all():
      raise errors.UserError(
        f"no pictures: embeddings of tower '{tower}' are not finite, so the model has "
        "diverged; take an earlier checkpoint"
      )
  image, text = (_first(pairs, kind) for kind in (Images, Texts))
  order = sorted(split.towers, key=lambda name: name != image)
  sheets = [] if image is None or text is None else _sheets(split, pairs, image, text)
  maps = [_map(split, pairs, order)] if len(pairs.labels) > 1 else []
  return [*sheets, *maps, *(_matrix(split, pairs, order[0], x) for x in order[1:])]


def _first(pairs: PairSet, kind: type) -> str | None:
  """The first tower whose column is of a kind, or None."""
  return next((k for k, v in pairs.columns.items() if isinstance(v, kind)), None)


def _sheets(split, pairs: PairSet, image: str, text: str) -> list[pictures.Picture]:
  """What pictures find among all captions, and captions among all pictures."""
  images, texts = split.towers[image], split.towers[text]
  pixels = pairs.columns[image].pixels  # type: ignore[attr-defined]
  captions = [x for several in pairs.columns[text].captions for x in several]  # type: ignore[attr-defined]
  asked = _spread(len(pixels), _QUERIES)
  spoken = texts.first_rows()[asked]
  tables = images.parts["shared"], texts.parts["shared"]
  by_image = tower_pictures.rank_keys(
    tables[0][asked], tables[1], asked, texts.example, _FOUND
  )
  by_text = tower_pictures.rank_keys(
    tables[1][spoken], tables[0], asked, images.example, _FOUND
  )
  how = f"{len(asked)} taken evenly over the test split, not chosen by their success"
  return [
    pictures.Picture(
      f"retrieval_{image}_to_{text}",
      tower_pictures.captions_found(pixels[asked], by_image, captions),
      f"Pictures ask for captions: {how}, each with its {_FOUND} nearest of "
      f"{len(captions):,} captions and their cosines. The picture's own captions bear "
      f"a tick and bold type: {_hits(by_image)}.",
    ),
    pictures.Picture(
      f"retrieval_{text}_to_{image}",
      tower_pictures.images_found([captions[i] for i in spoken], by_text, pixels),
      f"Captions ask for pictures: {how}, each with its {_FOUND} nearest of "
      f"{len(pixels):,} pictures and their cosines. The caption's own picture has a "
      f"frame and a tick: {_hits(by_text)}. Elsewhere it stands apart at the right, "
      "with its rank.",
    ),
  ]


def _hits(rankings: list[tower_pictures.Ranking]) -> str:
  hits = sum(bool(found.right.any()) for found in rankings)
  first = sum(found.rank == 1 for found in rankings)
  return f"{hits} of {len(rankings)} find one, {first} in first place"


def _map(split, pairs: PairSet, order: list[str]) -> pictures.Picture:
  """The towers' embeddings in the plane of those of the first tower."""
  chosen = _spread(len(pairs.labels), _MAPPED)
  rows = {name: _first_captions(split, name)[chosen] for name in order}
  plane = tower_pictures.principal_plane(rows[order[0]])
  others = [
    f"{plane.share_of(rows[x]):.0%} of that of the {x} tower" for x in order[1:]
  ]
  points = {f"{name} tower": plane.points(x) for name, x in rows.items()}
  telling = _telling(pairs, chosen, plane.points(rows[order[0]]))
  labels, told = None, ""
  names: tuple[str, ...] = ()
  if telling is not None:
    attribute, share = telling
    labels, names = pairs.attributes[attribute][chosen], _names(pairs, attribute)
    told = (
      f" Colour and marker: {attribute}, which of the attributes with at most "
      f"{tower_pictures.MOST_GROUPS} values says most about the places of the "
      f"{order[0]} tower ({share:.0%} of their variance lies between its values)."
    )
  return pictures.Picture(
    "embedding_map",
    tower_pictures.embedding_map(points, plane, labels, names),
    f"Shared embeddings of {len(chosen)} test examples in the plane of the two largest "
    f"principal components of the {order[0]} tower. The plane shows "
    f"{plane.shares.sum():.0%} of the variance of the {order[0]} tower and "
    f"{', '.join(others)}; what lies apart in it is apart, but not the other way "
    f"round.{told}",
    vector=True,
  )


def _telling(pairs: PairSet, chosen, places: np.ndarray) -> tuple[str, float] | None:
  """The attribute that explains most of the variance of the places, and how much."""
  found = {
    name: tower_pictures.explained_share(places, labels[chosen])
    for name, labels in pairs.attributes.items()
    if labels.ndim == 1
    and labels.min() >= 0
    and 1 <= labels.max() < tower_pictures.MOST_GROUPS
  }
  return max(found.items(), key=lambda item: item[1]) if found else None


def _names(pairs: PairSet, attribute: str) -> tuple[str, ...]:
  """Words for the labels of an attribute; their numbers where they have none."""
  known = {key: x for kind in scenes.ATTRIBUTES.values() for key, x in kind.items()}
  known["class"] = pairs.class_names
  count = int(pairs.attributes[attribute].max()) + 1
  names = known.get(attribute, ())
  return names[:count] if len(names) >= count else tuple(map(str, range(count)))


def _matrix(split, pairs: PairSet, first: str, second: str) -> pictures.Picture:
  """Cosines of two towers on few examples, sorted by class."""
  known = bool(pairs.class_names) and pairs.labels.max() >= 0
  chosen = _by_class(pairs.labels) if known else _spread(len(pairs.labels), _COMPARED)
  rows, columns = (
    tower_pictures.unit_rows(_first_captions(split, name)[chosen])
    for name in (first, second)
  )
  cosines = rows @ columns.T
  groups = [pairs.class_names[i] for i in pairs.labels[chosen]] if known else []
  low, high = tower_pictures.color_scale(cosines)
  own = np.eye(len(cosines), dtype=bool)
  means = f"pairs {cosines[own].mean():.2f} on average"
  if len(cosines) > 1:
    means += f", all others {cosines[~own].mean():.2f}"
  how = "the first of each class, with lines between classes"
  how = how if known else "in their order"
  names = [
    f"{name} tower" + (", first captions" if isinstance(column, Texts) else "")
    for name, column in ((x, pairs.columns[x]) for x in (first, second))
  ]
  return pictures.Picture(
    f"similarity_{first}_{second}",
    tower_pictures.similarity_matrix(cosines, names[0], names[1], groups),
    f"Cosines of {len(cosines)} test examples, {how}; rows: {names[0]}; columns: "
    f"{names[1]}. Pairs are on the diagonal ({means}). One colour scale, from "
    f"{low:.1f} (dark) to {high:.1f} (bright).",
  )


def _by_class(labels: np.ndarray) -> np.ndarray:
  """Rows of the first examples of each class, as many of each, class after class."""
  classes = np.unique(labels[labels >= 0])[:_COMPARED]
  most = _COMPARED // len(classes)
  return np.concatenate([np.flatnonzero(labels == x)[:most] for x in classes])


def _first_captions(split, tower: str) -> np.ndarray:
  """[n, d] shared embeddings in float64, one an example."""
  table = split.towers[tower]
  return table.parts["shared"][table.first_rows()].astype(np.float64)


def _spread(count: int, most: int) -> np.ndarray:
  """At most so many rows, evenly over all of them."""
  return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))
