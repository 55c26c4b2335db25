"""Other wordings of a caption: the text augmentation of Wei & Zou (2019), "EDA".

In this order: words become synonyms, synonyms are inserted, neighbours swap places,
words are left out; each happens to each word at its own rate. (Wei & Zou draw the
number of changes in place of each of them, and swap any two words.)

What happens to a caption is a hash of (seed, epoch, id): the same in any batch and on
any machine, another in every epoch.
"""

import dataclasses
import hashlib
import string
import struct
from collections.abc import Iterable, Mapping, Sequence

# Draws are integers below this.
_RANGE = 2**16
# Draws for a word: two to replace it, three to insert before it; then for each of at
# most two words that have come of it one to swap and one to leave out.
_DRAWS = 9


def synonym_table(groups: Iterable[Sequence[str]]) -> dict[str, tuple[str, ...]]:
  """A table for `reword`: each single word of a group -> the others of the group.

  Args:
    groups: words that may stand for each other, as in `scenes.SYNONYMS.values()`. A
      phrase stands for the words of its group, but is not looked up itself.

  Raises:
    ValueError: for a word in two groups.
  """
  table: dict[str, tuple[str, ...]] = {}
  for group in groups:
    for word in group:
      if word in table:
        raise ValueError(f"'{word}' is in two groups of synonyms; leave it in one")
      others = tuple(other for other in group if other != word)
      if others and len(word.split()) == 1:
        table[word] = others
  return table


_GROUPS = """
above over; airplane plane aircraft; background backdrop; bag sack; beautiful lovely
pretty; below under beneath; beside alongside; big large huge; bike bicycle; boat
vessel; bus coach; car automobile; center centre middle; chequered checkered; child
kid; circle disc; color colour; couch sofa; couple pair; cup mug; cyan turquoise; dark
dim; dish plate; dog hound; drawing sketch; eating consuming; empty bare; fast quick;
field meadow; forest woods; fridge refrigerator; gray grey; group bunch; happy
cheerful; icon symbol; jumping leaping; lady woman; looking gazing; man guy; many
numerous; motorbike motorcycle; old aged; person human; phone telephone; photo
photograph picture image; piece slice; purple violet; road street; rock stone; rug
carpet; several multiple; shop store; sitting seated; small little tiny; striped
stripy; tall high; television tv
"""

# For captions of photographs and drawings.
CAPTION_SYNONYMS: Mapping[str, tuple[str, ...]] = synonym_table(
  group.split() for group in _GROUPS.split(";")
)


@dataclasses.dataclass(frozen=True)
class Rates:
  """Probabilities, for each word; 0.1 are the settings of Wei & Zou for short texts.

  Attributes:
    synonym: of becoming a synonym, if it has one.
    insertion: that a synonym of some word of the caption is inserted before it.
    swap: of changing places with the next.
    deletion: of being left out.
  """

  synonym: float = 0.1
  insertion: float = 0.1
  swap: float = 0.1
  deletion: float = 0.1

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if not 0 <= value <= 1:
        raise ValueError(
          f"the rate of {field.name} is a probability in [0, 1], not {value}."
        )


EDA = Rates()


def reword(
  texts: Sequence[str],
  ids: Iterable[int | str],
  *,
  seed: int,
  epoch: int,
  rates: Rates = EDA,
  synonyms: Mapping[str, Sequence[str]] = CAPTION_SYNONYMS,
) -> list[str]:
  """Another wording of each caption, a function of (seed, epoch, id, caption) alone.

  Args:
    texts: n captions; their words are what white space bounds.
    ids: n names of the examples: those of the data set, not places in a batch.
    seed: another seed gives other wordings, as a second view needs.
    epoch: number of the pass over the data.
    rates: how much changes.
    synonyms: lower-case word -> words for it, at least one. Words are looked up in
      lower case and without punctuation at their ends, which stays.

  Returns:
    n captions, words apart by single spaces. One that had a word still has one.

  Raises:
    ValueError: for numbers of captions and ids that differ, or a table whose words are
      not single and in lower case, or that has none for a word.
  """
  for word, others in synonyms.items():
    if word != word.lower() or len(word.split()) != 1 or not others:
      raise ValueError(
        f"the synonyms of '{word}' are {list(others)}, but a table maps a single word "
        "in lower case to at least one other"
      )
  limits = [round(rate * _RANGE) for rate in dataclasses.astuple(rates)]
  ids = list(ids)
  if len(ids) != len(texts):
    raise ValueError(
      f"{len(texts)} captions have {len(ids)} ids; give each caption the id of its "
      "example"
    )
  return [
    " ".join(_changed(text.split(), f"{seed},{epoch},{name}", limits, synonyms))
    for text, name in zip(texts, ids, strict=True)
  ]


def _changed(words: list[str], key: str, limits: list[int], synonyms) -> list[str]:
  n = len(words)
  if not n:
    return words
  count = _DRAWS * n + 1
  # An extendable hash gives as many bits as the caption needs, everywhere the same.
  bits = hashlib.shake_128(key.encode()).digest(2 * count)
  draws = struct.unpack(f"<{count}H", bits)
  row = [draws[i * n : (i + 1) * n] for i in range(5)]
  swap, delete = draws[5 * n : 7 * n], draws[7 * n : 9 * n]
  replacing, inserting, swapping, deleting = limits

  changed = []
  for i, word in enumerate(words):
    if row[2][i] < inserting:
      source = _replaced(words[_pick(row[3][i], n)], row[4][i], synonyms)
      changed += [] if source is None else [source.strip(string.punctuation)]
    other = _replaced(word, row[1][i], synonyms) if row[0][i] < replacing else None
    changed.append(word if other is None else other)
  for i in range(len(changed) - 1):
    if swap[i] < swapping:
      changed[i], changed[i + 1] = changed[i + 1], changed[i]
  kept = [word for word, draw in zip(changed, delete, strict=False) if draw >= deleting]
  return kept or [changed[_pick(draws[-1], len(changed))]]


def _replaced(word: str, draw: int, synonyms) -> str | None:
  """The word with a synonym in its place, None if it has none."""
  core = word.strip(string.punctuation)
  known = synonyms.get(core.lower())
  return None if known is None else word.replace(core, known[_pick(draw, len(known))])


def _pick(draw: int, count: int) -> int:
  return draw * count // _RANGE
