"""Answers to questions about pictures: one spelling, VQA's accuracy, training weights.

The rules are those of the scorer of VQA (Antol et al. 2015; Goyal et al. 2017 for v2),
its oddities included, so that accuracies compare with published ones.
"""

import collections
import difflib
import re
from collections.abc import Collection, Iterable, Sequence

import numpy as np

# Names of the labels of sentences, in their order: whether a sentence is true of its
# picture, and what a picture says of a sentence (SNLI-VE; Xie et al. 2019), in the
# order of ALBEF (Li et al. 2021).
TRUTHS = ("false", "true")
ENTAILMENTS = ("contradiction", "neutral", "entailment")

_ARTICLES = frozenset(("a", "an", "the"))
_COUNTED = "zero one two three four five six seven eight nine ten".split()
_NUMBERS = {word: str(number) for number, word in enumerate(_COUNTED)} | {"none": "0"}
# The apostrophe stays: contractions need it. The colon and & are kept as well.
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
# Ending -> what it is put to. Where the word without apostrophe is another one ("well",
# "were", "shed", "its", "lets"), the scorer leaves it alone.
_ENDINGS = {
  "n't": (
    "ai are ca could did does do had has have is might must need ought sha should was "
    "were wo would"
  ),
  "'ve": "could might must not should they we what where who would you",
  "'d": "he how it someone something there they where who you",
  "'ll": "how it somebody someone something they what who why you",
  "'s": "he how somebody someone that there what when where who why",
  "'re": "there they what why you",
  "n't've": "could had might should would",
  "'d've": "he it she somebody someone something there they we who you",
}
_OTHERS = "ma'am o'clock 'twas y'all y'all'll y'all'd've 'ow's'at".split()


def _without_one_apostrophe() -> dict[str, str]:
  """Each contraction by each spelling that lacks one of its apostrophes."""
  whole = [
    stem + ending for ending, stems in _ENDINGS.items() for stem in stems.split()
  ]
  return {
    form[: place.start()] + form[place.end() :]: form
    for form in (*whole, *_OTHERS)
    for place in re.finditer("'", form)
    # The other way round in the scorer's table, so that it takes the apostrophe away.
  } | {"somebody'd": "somebodyd"}


_CONTRACTIONS = _without_one_apostrophe()


def _strip_marks(answer: str) -> str:
  """Applies the rules of punctuation.

  A mark goes if a space stands beside it anywhere in the answer, or the answer has a
  number with a comma; else it becomes a space. A full stop goes unless a digit follows.
  """
  grouped = re.search(r"\d,\d", answer)
  stripped = answer
  for mark in _MARKS:
    spaced = f"{mark} " in answer or f" {mark}" in answer
    stripped = stripped.replace(mark, "" if spaced or grouped else " ")
  return re.sub(r"\.(?!\d)", "", stripped)


def normalize_answer(answer: str) -> str:
  """Returns an answer in the spelling that the scorer of VQA gives to predictions.

  Punctuation goes (a full stop before a digit and the apostrophe stay), letters become
  small, "none" and "zero" to "ten" become digits, "a", "an", "the" go, contractions
  get their apostrophe, and one space stands between words. "The two cats." gives
  "2 cats", "1,000" gives "1000", "t-shirt" gives "t shirt", "A" gives "".
  """
  spaced = answer.replace("\n", " ").replace("\t", " ").strip()
  words = (_NUMBERS.get(word, word) for word in _strip_marks(spaced).lower().split())
  kept = (word for word in words if word not in _ARTICLES)
  return " ".join(_CONTRACTIONS.get(word, word) for word in kept)


def vqa_accuracy(
  answer: str, humans: Sequence[str], *, as_published: bool = True
) -> float:
  """Returns VQA's accuracy of one answer, in [0, 1].

  The mean over the humans of min(m / 3, 1), where m of the *other* ones gave the
  answer: of ten humans one gives 0.3, two 0.6, three 0.9, four or more 1.

  Args:
    answer: predicted; `normalize_answer` is applied to it.
    humans: what each human said. Of one human alone, whom leaving out would leave
      nobody, it is exact match instead: 1 if both answers have one spelling, else 0.
      Two to four humans cannot give 1.
    as_published: as the scorer does, take the answers of several humans to be in that
      spelling already, as VQA publishes them: if they differ, the rules of punctuation
      are applied to them; if all are one, nothing is. False: all are normalized.

  Raises:
    ValueError: no human.
  """
  if not len(humans) or isinstance(humans, str):
    raise ValueError(
      f"VQA's accuracy needs the answers of one or more humans, not {humans!r}; give a "
      "list of them"
    )
  if len(humans) == 1:
    return float(normalize_answer(answer) == normalize_answer(humans[0]))
  if not as_published:
    said = [normalize_answer(human) for human in humans]
  elif len(set(humans)) > 1:
    said = [_strip_marks(human) for human in humans]
  else:
    said = list(humans)
  count, matching = len(said), said.count(normalize_answer(answer))
  # Each of the matching humans has one match less among the others.
  left_out = matching * min((matching - 1) / 3, 1.0)
  return (left_out + (count - matching) * min(matching / 3, 1.0)) / count


def answer_weights(humans: Sequence[str]) -> dict[str, float]:
  """Returns each distinct answer with the share of the humans that gave it.

  The weights of the targets when a decoder learns to answer (ALBEF; Li et al. 2021).

  Args:
    humans: what each human said, normalized here; an answer of which nothing is left
      ("A") stands in small letters.

  Returns:
    Shares that sum to 1, by answer, the commonest first; of ties that said first.

  Raises:
    ValueError: no human, or a blank answer.
  """
  if not len(humans) or isinstance(humans, str):
    raise ValueError(
      f"weights need the answers of one or more humans, not {humans!r}; give a list"
    )
  counts = collections.Counter(map(_spell, humans))
  return {answer: count / len(humans) for answer, count in counts.most_common()}


def frequent_answers(
  answers: Iterable[str], *, most: int | None = None, least: int = 1
) -> tuple[str, ...]:
  """Returns the list of answers that a model chooses from.

  Args:
    answers: of a training split, with their repetitions; spelled as `answer_weights`.
    most: so many of the commonest; None for all.
    least: how often an answer must occur.

  Returns:
    Distinct answers, the commonest first, ties in alphabetical order.

  Raises:
    ValueError: a blank answer, or none occurs so often.
  """
  counts = collections.Counter(map(_spell, answers))
  order = sorted(counts, key=lambda answer: (-counts[answer], answer))
  kept = tuple(answer for answer in order if counts[answer] >= least)[:most]
  if not kept:
    raise ValueError(
      f"none of {len(counts)} distinct answers occurs {least} or more times, so there "
      "is nothing to choose from; lower the number"
    )
  return kept


def number_answers(
  answers: Iterable[str], names: Collection[str], *, outside: int | None = None
) -> np.ndarray:
  """Returns the place of each answer in a list, int32 [n].

  Args:
    answers: n answers, spelled as in the list.
    names: the list, such as `frequent_answers` or TRUTHS.
    outside: number of an answer that is not in the list, such as -1; None refuses it.

  Raises:
    ValueError: an answer outside the list, or a name twice in it.
  """
  known = {name: number for number, name in enumerate(names)}
  if len(known) < len(names):
    raise ValueError("the list of answers names one twice; each needs one number")
  numbers = []
  for row, answer in enumerate(answers):
    number = known.get(answer, outside)
    if number is None:
      close = difflib.get_close_matches(answer, known, n=1)
      hint = f" (did you mean '{close[0]}'?)" if close else ""
      raise ValueError(
        f"answer {row}, '{answer}', is not among the {len(known)} known ones{hint}; "
        "leave it out, or give outside=-1 to mark it"
      )
    numbers.append(number)
  return np.array(numbers, np.int32)


def _spell(answer: str) -> str:
  """In the scorer's spelling; where nothing is left of it, in small letters."""
  spelled = normalize_answer(answer) or " ".join(answer.lower().split())
  if not spelled:
    raise ValueError("an answer is blank; leave out the question")
  return spelled
