"""Statements about two pictures that are true or false (the form of NLVR2).

The words are drawn first, then whether they are true, then what each picture must show
for that, and last a scene for either. So each statement is as often true as false, and
given its words, what one picture shows says of the other no more than the rule's table
of cells does.

Where the pictures must agree or differ (an exclusive or, an equal number, a sum), the
table leaves the best guess from the words and one picture at one half. It cannot for
the others: a picture without a star settles whether both show one.

Of pictures with one object each it is not said how many things they show.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from multimodal.scenes import draws, phrases
from multimodal.scenes.layout import CROWD, MAX_OBJECTS, SIZES, Crowd
from multimodal.scenes.search import (
  COUNTS,
  LONE,
  SIZE,
  STREAM,
  STREAMS,
  View,
  checked,
  chosen_kinds,
  described,
  pick,
  seek,
)
from multimodal.scenes.statement_rules import LONE_RULES, RULES, STATEMENT_KINDS, Rule

_STREAM = STREAM + STREAMS
_TRIES = (_STREAM + 2**10, _STREAM + 2**11)  # for the left and the right picture
_CHUNK = 8192  # statements at a time


class Statements(NamedTuple):
  """Statements about pairs of pictures.

  Attributes:
    left, right: int64 [n], ids of the scenes; of the split of the statements.
    texts: n statements, in lower case.
    truths: int32 [n], 1 where the statement is true.
    kinds: int32 [n], indices into STATEMENT_KINDS.
    chances: float32 [n]: how often the best guess from the text and one of the two
      pictures is right; from the text alone it is one half.
  """

  left: np.ndarray
  right: np.ndarray
  texts: list[str]
  truths: np.ndarray
  kinds: np.ndarray
  chances: np.ndarray


def pair_statements(
  ids: np.ndarray,
  *,
  seed: int = 0,
  level: Crowd = CROWD,
  kinds: Sequence[str] | None = None,
) -> Statements:
  """Returns statements, each about two pictures of its own.

  Args:
    ids: [n] integers: those of a split of `split_ids` are about scenes of that split.
    seed: as in `compose`.
    level: as in `compose`; of 1 to 4 objects, or of one, where there are no kinds that
      count ("as many", "more", "total") and nothing is said of sizes.
    kinds: those that are made, equally often; None: all that the level has.

  Raises:
    ValueError: no kind or one that the level has not, ids outside of the splits, or
      another level.
  """
  ids = checked(ids, level, lone=True)
  known = tuple(dict.fromkeys(rule.kind for rule in _rules(level)))
  kinds = chosen_kinds(kinds, known, "statements", level)
  parts = [
    _stated(ids[start : start + _CHUNK], seed, level, kinds)
    for start in range(0, max(len(ids), 1), _CHUNK)
  ]
  left, right, texts, *numbers = zip(*parts, strict=True)
  return Statements(
    np.concatenate(left),
    np.concatenate(right),
    [text for part in texts for text in part],
    *(np.concatenate(field) for field in numbers),
  )


def _rules(level: Crowd) -> tuple[Rule, ...]:
  return LONE_RULES if level.counts == LONE else RULES


def _stated(ids: np.ndarray, seed: int, level: Crowd, kinds: Sequence[str]) -> tuple:
  """The fields of Statements."""
  n = len(ids)
  u = draws.uniform(seed, ids, 18, _STREAM).T
  kind = np.array([STATEMENT_KINDS.index(name) for name in kinds], np.int32)
  kind = kind[pick(u[0], len(kinds))]
  truth = pick(u[1], 2)
  said = np.stack([pick(u[2 + k], COUNTS[k]) for k in range(4)], axis=1)
  # What each picture must show, and least and most how often.
  needs = np.full((2, n, 4), -1, np.int32)
  bounds = np.zeros((2, n, 2), np.int32)
  texts = np.full(n, "", object)
  chances = np.zeros(n, np.float32)
  for number, name in enumerate(STATEMENT_KINDS):
    rules = [rule for rule in _rules(level) if rule.kind == name]
    which = pick(u[6], len(rules))
    for k, rule in enumerate(rules):
      rows = np.flatnonzero((kind == number) & (which == k))
      group = rule.groups[pick(u[7, rows], len(rule.groups))]
      told = np.where(group, said[rows], -1)
      cells = _cells(rule, truth[rows], u[8, rows])
      needs[:, rows], bounds[:, rows] = _needed(rule, told, group, cells)
      texts[rows] = _worded(rule, told, u[9:15, rows].T)
      chances[rows] = rule.alone
  near = u[15:17] < 0.5
  scenes = [
    seek(ids, _fits(said, most, close, level), seed=seed, level=level, stream=stream)
    for said, most, close, stream in zip(needs, bounds, near, _TRIES, strict=True)
  ]
  return *scenes, texts.tolist(), truth, kind, chances


def _cells(rule: Rule, truth: np.ndarray, draw: np.ndarray) -> np.ndarray:
  """int32 [2, n]: what the left and the right picture hold."""
  false, true = (np.array(cells, np.int32) for cells in rule.cells)
  drawn = [cells[pick(draw, len(cells))] for cells in (false, true)]
  return np.where(truth[:, None] == 1, drawn[1], drawn[0]).T


def _needed(
  rule: Rule, told: np.ndarray, group: np.ndarray, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Descriptions [2, n, 4], and least and most of what fits them [2, n, 2]."""
  if rule.about == "counted":
    return np.stack([told, told]), np.stack([cells, cells], axis=-1)
  if rule.about == "shown":
    most = np.where(cells == 1, MAX_OBJECTS, 0)
    return np.stack([told, told]), np.stack([cells, most], axis=-1)
  needs = np.where(group, cells[..., None], -1)
  needs[..., SIZE] = SIZES.index("large")
  return needs, np.ones((*cells.shape, 2), np.int32)


def _fits(needs: np.ndarray, bounds: np.ndarray, near: np.ndarray, level: Crowd):
  """Whether scenes show what they must.

  Of what must not be shown, scenes that are to be near to it show all parts apart; one
  object can only show one of two.
  """

  def fits(rows: np.ndarray, view: View) -> np.ndarray:
    said, (least, most) = needs[rows], bounds[rows].T
    count = described(view, said).sum(1)
    part = ((view.values == said[:, None]) & view.present[..., None]).any(1)
    parts = (said >= 0).sum(1)
    strict = near[rows] & (parts > 1) & (most == 0)
    wanted = np.int32(1) if level.counts == LONE else parts
    return (count >= least) & (count <= most) & (~strict | (part.sum(1) >= wanted))

  return fits


def _worded(rule: Rule, told: np.ndarray, drawn: np.ndarray) -> list[str]:
  """The statements; drawn is [n, 6]."""
  if rule.style == "plural":
    names = phrases.plurals(told, drawn)
  else:
    names = phrases.nouns(told, drawn)
    if rule.style == "article":
      names = phrases.with_article(names)
  return [
    rule.templates[int(u * len(rule.templates))].format(a=name)
    for name, u in zip(names, drawn[:, 5].tolist(), strict=True)
  ]
