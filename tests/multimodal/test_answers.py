"""Answers: the rules of VQA's scorer by hand and by recomputation, weights, lists."""

import itertools

import numpy as np
import pytest

from multimodal import answers
from multimodal.answers import normalize_answer, vqa_accuracy

TEN = ("red",) * 4 + ("maroon",) * 3 + ("dark red",) * 2 + ("brown",)


@pytest.mark.parametrize(
  ("answer", "spelled"),
  [
    ("Yes", "yes"),
    ("The two cats.", "2 cats"),
    ("none", "0"),
    ("Zero", "0"),
    ("ten", "10"),
    ("eleven", "eleven"),
    ("a an the", ""),
    ("theatre", "theatre"),
    # Contractions get their apostrophe back; words that are others without it do not.
    ("dont", "don't"),
    ("don't", "don't"),
    ("cant wont aint", "can't won't ain't"),
    ("couldn'tve", "couldn't've"),
    ("couldnt've", "couldn't've"),
    ("yalld've", "yalld've"),  # lacks two
    ("y'alld've", "y'all'd've"),
    ("5 oclock", "5 o'clock"),
    ("ow's'at", "'ow's'at"),
    ("hes somebodys", "he's somebody's"),
    ("its well were shed lets im", "its well were shed lets im"),
    ("somebody'd", "somebodyd"),  # so the scorer has it
    # A full stop goes unless a digit follows; the comma within numbers goes.
    ("u.s.a.", "usa"),
    ("2.5", "2.5"),
    (".5 m.", ".5 m"),
    ("1,000", "1000"),
    ("red, white", "red white"),
    ("red,white", "red white"),
    # A number with a comma takes all marks away; else one beside a space does.
    ("1,000-2,000", "10002000"),
    ("t-shirt", "t shirt"),
    ("yes - no", "yes no"),
    ("t-shirt and - so", "tshirt and so"),
    ("yes!", "yes"),
    ("what?no", "what no"),
    ("{x}[y](z)<a>", "x y z"),
    ("10:30", "10:30"),
    ("black & white", "black & white"),
    ("black\nand\twhite ", "black and white"),
    ("yes\t>no", "yes no"),
  ],
)
def test_rules_of_the_scorer(answer, spelled):
  assert normalize_answer(answer) == spelled


def test_every_contraction_lacks_one_apostrophe_but_for_the_odd_one():
  table = dict(answers._CONTRACTIONS)
  assert table.pop("somebody'd") == "somebodyd"
  for lacking, whole in table.items():
    gaps = [i for i, sign in enumerate(whole) if sign == "'"]
    assert lacking in {whole[:i] + whole[i + 1 :] for i in gaps}
    assert normalize_answer(lacking) == whole == normalize_answer(whole)
  assert len(table) == 113


def left_out(answer, humans):
  """The scorer's loop: leave each human out, count the others."""
  accuracies = []
  for skipped in range(len(humans)):
    others = [human for i, human in enumerate(humans) if i != skipped]
    accuracies.append(min(sum(human == answer for human in others) / 3, 1.0))
  return np.mean(accuracies)


def test_accuracy_by_hand():
  found = {answer: vqa_accuracy(answer, TEN) for answer in sorted(set(TEN))}
  assert found == pytest.approx(
    {"red": 1.0, "maroon": 0.9, "dark red": 0.6, "brown": 0.3}
  )
  assert vqa_accuracy("blue", TEN) == 0
  assert vqa_accuracy(" RED. ", TEN) == 1


def test_accuracy_is_the_mean_over_subsets_of_nine():
  for matching in range(11):
    humans = ["yes"] * matching + [f"other {i}" for i in range(10 - matching)]
    nine = [
      min(sum(human == "yes" for human in chosen) / 3, 1)
      for chosen in itertools.combinations(humans, 9)
    ]
    assert vqa_accuracy("yes", humans) == pytest.approx(np.mean(nine), abs=1e-15)
  rng = np.random.default_rng(0)
  for count in (2, 3, 5, 10):
    for _ in range(20):
      humans = [f"w{i}" for i in rng.integers(0, 4, count)]
      assert vqa_accuracy("w1", humans) == pytest.approx(left_out("w1", humans))
      assert vqa_accuracy("w1", humans[::-1]) == vqa_accuracy("w1", humans)


def test_humans_are_taken_as_published_unless_told_otherwise():
  # All alike: untouched, so a spelling that predictions never have cannot be met.
  assert vqa_accuracy("Yes", ["Yes"] * 10) == 0
  assert vqa_accuracy("Yes", ["Yes"] * 10, as_published=False) == 1
  # They differ: punctuation only.
  mixed = ["t-shirt"] * 5 + ["The T-shirt"] * 5
  assert vqa_accuracy("T-Shirt", mixed) == 1
  assert vqa_accuracy("the t shirt", mixed) == 1
  half = ["t-shirt"] + ["The T-shirt"] * 9
  assert vqa_accuracy("t-shirt", half) == pytest.approx(0.3)
  assert vqa_accuracy("t-shirt", half, as_published=False) == 1


def test_one_human_is_exact_match():
  assert vqa_accuracy("the Left.", ["left"]) == 1
  assert vqa_accuracy("left", ["left side"]) == 0
  assert vqa_accuracy("2", ["Two"], as_published=False) == 1
  for nobody in ([], "yes"):
    with pytest.raises(ValueError, match="one or more humans"):
      vqa_accuracy("yes", nobody)


def test_weights_are_shares_of_the_humans():
  weights = answers.answer_weights(["Yes", "yes", "no", "the yes", "No."])
  assert weights == pytest.approx({"yes": 0.6, "no": 0.4})
  assert list(weights) == ["yes", "no"] and sum(weights.values()) == 1
  assert answers.answer_weights(TEN) == pytest.approx(
    {"red": 0.4, "maroon": 0.3, "dark red": 0.2, "brown": 0.1}
  )
  assert answers.answer_weights(["A"]) == {"a": 1.0}  # nothing is lost
  for nobody in ([], "yes"):
    with pytest.raises(ValueError, match="one or more humans"):
      answers.answer_weights(nobody)
  with pytest.raises(ValueError, match="blank"):
    answers.answer_weights(["yes", " "])


def test_lists_of_answers_and_places_in_them():
  said = ["no", "Yes", "yes", "pink", "No", "yes.", "blue"]
  listed = answers.frequent_answers(said)
  assert listed == ("yes", "no", "blue", "pink")
  assert answers.frequent_answers(said, most=2) == ("yes", "no")
  assert answers.frequent_answers(said, least=2) == ("yes", "no")
  with pytest.raises(ValueError, match="none of 4 distinct answers occurs 4 or more"):
    answers.frequent_answers(said, least=4)
  numbers = answers.number_answers(["no", "pink", "yes"], listed)
  assert numbers.dtype == np.int32 and numbers.tolist() == [1, 3, 0]
  assert answers.number_answers([], listed).shape == (0,)
  assert answers.number_answers(["no", "?"], listed, outside=-1).tolist() == [1, -1]
  with pytest.raises(ValueError, match=r"answer 1, 'pin', .*4 known.*mean 'pink'"):
    answers.number_answers(["no", "pin"], listed)
  with pytest.raises(ValueError, match="names one twice"):
    answers.number_answers(["no"], ["no", "no"])


def test_labels_of_entailment_have_one_order():
  assert answers.ENTAILMENTS == ("contradiction", "neutral", "entailment")
