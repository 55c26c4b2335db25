"""Byte-pair encoding of text (Sennrich et al. 2016) over bytes, offline.

Text is lower-cased, brought to Unicode's composed form (NFC), and its white space made
single spaces; what is left comes back exactly from its tokens, whatever the script,
because the alphabet is the 256 bytes of UTF-8.

No token crosses words. A word is what white space bounds, cut further into runs of
letters, single digits, runs of other characters, and English endings ('s, 're, ...). A
word that follows white space, or starts the text, carries a space in front: "a dog" and
"dog a" share both their words, while the tail of "hot-dog" differs from "dog". (CLIP
marks the end of words instead, and forgets where spaces were.)

Ids: PAD, START, END, MASK, the 256 bytes, then what the merges make, in their order.
"""

import collections
import dataclasses
import heapq
import itertools
import pathlib
import re
import unicodedata
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

PAD, START, END, MASK = range(4)
_FIRST_BYTE = 4
_BYTES = [bytes([b]) for b in range(256)]

Merge = tuple[bytes, bytes]

_PIECES = re.compile(
  r"'(?:s|t|re|ve|m|ll|d)(?![^\W\d_])| ?[^\W\d_]+| ?\d| ?(?:[^\w\s]|_)+"
)
_BUNDLED = pathlib.Path(__file__).parent / "vocabulary" / "captions.txt"
# Characters that stand for themselves in a file of merges: all but "%", and "#", which
# starts a comment.
_PLAIN = "!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"
# Words whose tokens are remembered.
_REMEMBERED = 2**18


def normalised(text: str) -> str:
  """The text as its tokens keep it: lower case, NFC, single spaces, none at the ends.

  Raises:
    ValueError: for a lone surrogate, which is no character.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:
    raise ValueError(
      f"text with a lone surrogate at character {error.start} is not Unicode; read its "
      "file as UTF-8"
    ) from None
  return " ".join(unicodedata.normalize("NFC", text.lower()).split())


def _pieces(word: str) -> Iterator[bytes]:
  """The parts of a word, which tokens do not cross; the first starts with a space."""
  for piece in _PIECES.findall(" " + normalised(word)):
    yield piece.encode()


class _Words(dict):
  """Word -> its ids, worked out when it is first asked for."""

  def __init__(self, merges: Sequence[Merge]):
    self._ids = {b: _FIRST_BYTE + i for i, b in enumerate(_BYTES)}
    self._ranks: dict[Merge, int] = {}
    for rank, pair in enumerate(merges):
      for part in pair:
        if part not in self._ids:
          raise ValueError(
            f"merge {rank + 1} joins {part!r}, which no merge before it makes; keep "
            "the merges in the order in which train_merges returned them"
          )
      self._ranks.setdefault(pair, rank)
      # Two merges may make the same bytes: one token.
      self._ids.setdefault(pair[0] + pair[1], len(self._ids) + _FIRST_BYTE)
    self.tokens = list(self._ids)

  def __missing__(self, word: str) -> tuple[int, ...]:
    if len(self) >= _REMEMBERED:
      self.clear()
    parts = itertools.chain.from_iterable(map(self._split, _pieces(word)))
    self[word] = ids = tuple(self._ids[part] for part in parts)
    return ids

  def _split(self, piece: bytes) -> list[bytes]:
    parts = [_BYTES[b] for b in piece]
    while len(parts) > 1:
      known = [pair for pair in itertools.pairwise(parts) if pair in self._ranks]
      if not known:
        break
      parts = _merge(parts, min(known, key=self._ranks.__getitem__))
    return parts


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
  """Text to ids and back; `load` makes the one that comes with this package.

  Attributes:
    merges: pairs of tokens to join, the first of them first.
  """

  merges: tuple[Merge, ...] = dataclasses.field(repr=False)
  _words: _Words = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    object.__setattr__(self, "_words", _Words(self.merges))

  @property
  def vocabulary_size(self) -> int:
    """Number of ids, the special ones included."""
    return _FIRST_BYTE + len(self._words.tokens)

  def encode(self, text: str) -> list[int]:
    """The ids of a text, without START and END; none for a text without words.

    Nothing that a text says gives a special id.

    Raises:
      ValueError: for a lone surrogate.
    """
    words = self._words
    ids: list[int] = []
    for word in text.lower().split():
      ids += words[word]
    return ids

  def tokens(self, text: str) -> list[bytes]:
    """What `encode` cuts a text into, to be looked at."""
    return [self._words.tokens[i - _FIRST_BYTE] for i in self.encode(text)]

  def decode(self, ids: Iterable[int]) -> str:
    """The normalised text of ids; special ids are passed over.

    Ids that cut a character in two give the replacement character U+FFFD.

    Raises:
      ValueError: for an id outside the vocabulary.
    """
    parts = []
    for i in ids:
      if not 0 <= i < self.vocabulary_size:
        raise ValueError(
          f"id {i} is not in the vocabulary, which ends at {self.vocabulary_size - 1}; "
          "decode with the tokenizer that encoded"
        )
      if i >= _FIRST_BYTE:
        parts.append(self._words.tokens[i - _FIRST_BYTE])
    return b"".join(parts).decode(errors="replace").removeprefix(" ")

  def batch(self, texts: Sequence[str], context: int) -> tuple[np.ndarray, int]:
    """Texts as rows START, ids, END, PAD, ..., and how many were too long.

    Args:
      texts: n texts; one without words becomes START, END.
      context: length of the rows, at least 2.

    Returns:
      int32 [n, context], and the number of texts that were cut, which keep their END.

    Raises:
      ValueError: for a context below 2, or one text instead of a list.
    """
    if context < 2:
      raise ValueError(
        f"a context of {context} has no room for the start and end tokens; take at "
        "least 3"
      )
    if isinstance(texts, str):
      raise ValueError("batch takes a list of texts; put a single one into a list")
    rows = np.full((len(texts), context), PAD, np.int32)
    cut = 0
    for row, text in zip(rows, texts, strict=True):
      ids = self.encode(text)
      if len(ids) > context - 2:
        cut += 1
        del ids[context - 2 :]
      row[: len(ids) + 2] = [START, *ids, END]
    return rows, cut


def without_padding(tokens: np.ndarray) -> np.ndarray:
  """Rows [n, t] as long as the longest of their texts: shorter ones are cheaper.

  Args:
    tokens: of `Tokenizer.batch`; a transformer makes the same of the result.
  """
  return tokens[:, : max(1, int(np.max(np.sum(tokens != PAD, axis=1), initial=0)))]


def load(merges: int | None = None) -> Tokenizer:
  """The tokenizer that comes with this package: 4,096 ids, for English captions.

  Where its merges come from, and the licences, stand at the top of their file,
  `vocabulary/captions.txt`.

  Args:
    merges: how many to take, the first ones, for a smaller vocabulary; None for all.

  Raises:
    ValueError: for more merges than there are, or fewer than none.
  """
  known = parse_merges(_BUNDLED.read_text(encoding="utf-8"))
  count = len(known) if merges is None else merges
  if not 0 <= count <= len(known):
    raise ValueError(
      f"the tokenizer has {len(known)} merges, so it cannot take {merges}; choose a "
      f"number from 0 to {len(known)}"
    )
  return Tokenizer(tuple(known[:count]))


def train_merges(texts: Iterable[str], merges: int) -> list[Merge]:
  """Learns merges: again and again, the most frequent pair of neighbours becomes one.

  Equally frequent pairs come in the order of their bytes, so the result depends on how
  often each word occurs and on nothing else. It stops early once no pair occurs twice.

  Args:
    texts: what to learn from; a few megabytes take seconds.
    merges: how many to learn at most.

  Returns:
    Pairs of tokens in the order of joining, for `Tokenizer(tuple(pairs))`.
  """
  frequency: collections.Counter[bytes] = collections.Counter()
  words = collections.Counter(word for text in texts for word in text.lower().split())
  for word, count in words.items():
    for piece in _pieces(word):
      frequency[piece] += count
  parts = {piece: [_BYTES[b] for b in piece] for piece in frequency}
  counts: collections.Counter[Merge] = collections.Counter()
  where: dict[Merge, set[bytes]] = collections.defaultdict(set)

  def count_pairs(piece: bytes, sign: int) -> set[Merge]:
    pairs = list(itertools.pairwise(parts[piece]))
    for pair in pairs:
      counts[pair] += sign * frequency[piece]
      where[pair].add(piece)
    return set(pairs)

  for piece in parts:
    count_pairs(piece, 1)
  heap = [(-count, pair) for pair, count in counts.items()]
  heapq.heapify(heap)
  # A dict, since a pair may come back: its first part can be made in another way later.
  learnt: dict[Merge, None] = {}
  while heap and len(learnt) < merges:
    count, pair = heapq.heappop(heap)
    if -count != counts[pair] or counts[pair] < 2:
      continue  # an entry from before the count changed; the new one is in the heap
    learnt[pair] = None
    changed: set[Merge] = set()
    for piece in where.pop(pair):
      changed |= count_pairs(piece, -1)
      parts[piece] = _merge(parts[piece], pair)
      changed |= count_pairs(piece, 1)
    for other in changed:
      heapq.heappush(heap, (-counts[other], other))
  return list(learnt)


def _merge(parts: list[bytes], pair: Merge) -> list[bytes]:
  """Joins each occurrence of the pair, from the left."""
  merged: list[bytes] = []
  i = 0
  while i < len(parts):
    both = (parts[i], parts[i + 1]) if i + 1 < len(parts) else None
    merged.append(parts[i] + parts[i + 1] if both == pair else parts[i])
    i += 2 if both == pair else 1
  return merged


def format_merges(merges: Iterable[Merge], comment: str = "") -> str:
  """Merges as text: a pair a line, bytes beyond printable ASCII as %20, after comments.

  Args:
    merges: as `train_merges` returns them.
    comment: lines to put first.
  """
  lines = [f"# {line}".rstrip() for line in comment.splitlines()]
  for pair in merges:
    lines.append(" ".join(urllib.parse.quote(part, safe=_PLAIN) for part in pair))
  return "\n".join(lines) + "\n"


def parse_merges(text: str) -> list[Merge]:
  """The merges of a text that `format_merges` wrote.

  Raises:
    ValueError: for a line that is no pair.
  """
  merges = []
  for number, line in enumerate(text.splitlines(), 1):
    if line.startswith("#"):
      continue
    parts = line.split(" ")
    if len(parts) != 2 or not all(parts):
      raise ValueError(
        f"line {number} of the merges is '{line}', but a line is two tokens with a "
        "space between; write such files with format_merges"
      )
    first, second = map(urllib.parse.unquote_to_bytes, parts)
    merges.append((first, second))
  return merges
