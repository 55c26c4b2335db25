"""Prompts: every template takes the class once, and names make sentences."""

import pytest

from multimodal import prompts


@pytest.mark.parametrize("name", prompts.TEMPLATE_SETS)
def test_every_template_has_one_place_for_the_class(name):
  templates = prompts.TEMPLATE_SETS[name]
  assert len(set(templates)) == len(templates) > 0
  assert all(template.count("{}") == 1 for template in templates)


def test_classes_times_templates():
  rows = prompts.class_prompts("plain", ["dog", "traffic_light"])
  assert rows == [["a photo of a dog."], ["a photo of a traffic light."]]
  rows = prompts.class_prompts("photos", ["dog", "cat", "sea lion"])
  count = len(prompts.TEMPLATE_SETS["photos"])
  assert [len(row) for row in rows] == [count] * 3
  assert all("sea lion" in text for text in rows[2])


def test_a_name_may_hold_braces():
  assert prompts.class_prompts("name", ["{} {0}"]) == [["{} {0}"]]


def test_errors_name_the_cure():
  with pytest.raises(
    ValueError, match=r"'drawing'; known are .*Did you mean 'drawings'"
  ):
    prompts.class_prompts("drawing", ["dog"])
  with pytest.raises(ValueError, match="known are drawings, icons, name, photos"):
    prompts.class_prompts("xyzzy", ["dog"])
  for names in ([], "dog"):
    with pytest.raises(ValueError, match="needs the names of the classes"):
      prompts.class_prompts("plain", names)
  with pytest.raises(ValueError, match="class 1 of 3 has no name"):
    prompts.class_prompts("plain", ["dog", " _", "cat"])
