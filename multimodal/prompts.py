"""Sentences about classes, for zero-shot classification (Radford et al. 2021).

A set is a few templates; the classifier of a class is the mean over its sentences
(`retrieval.zero_shot_weights`), which is steadier than any one of them.
"""

import difflib
from collections.abc import Mapping, Sequence

from multimodal import scenes

# Name -> templates, "{}" for the class.
TEMPLATE_SETS: Mapping[str, tuple[str, ...]] = {
  "name": ("{}",),
  "plain": ("a photo of a {}.",),
  "photos": (
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a blurry photo of a {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a small picture of a {}.",
    "a {} seen from nearby.",
    "a {} far away in the picture.",
  ),
  "drawings": (
    "a drawing of a {}.",
    "a drawing of the {}.",
    "a simple sketch of a {}.",
    "a {} drawn with a few lines.",
    "a cartoon of a {}.",
    "a black and white picture of a {}.",
  ),
  "icons": (
    "{}",
    "an icon of a {}.",
    "an icon that stands for {}.",
    "a small symbol of a {}.",
    "the sign for {}.",
    "an emoji of a {}.",
  ),
  "scenes": scenes.PROMPTS,
}


def class_prompts(set_name: str, class_names: Sequence[str]) -> list[list[str]]:
  """The sentences of a set about each class.

  Args:
    set_name: one of TEMPLATE_SETS.
    class_names: c names; underscores become spaces.

  Returns:
    c lists of p sentences, the templates in their order.

  Raises:
    ValueError: for an unknown set, no classes, or a class without name.
  """
  if set_name not in TEMPLATE_SETS:
    near = difflib.get_close_matches(set_name, TEMPLATE_SETS, n=1, cutoff=0.4)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(
      f"there is no prompt set '{set_name}'; known are "
      f"{', '.join(sorted(TEMPLATE_SETS))}.{guess}"
    )
  if isinstance(class_names, str) or not len(class_names):
    raise ValueError(
      "zero-shot classification needs the names of the classes, a list with one for "
      "each label; a data set without names needs them written down"
    )
  names = [" ".join(name.replace("_", " ").split()) for name in class_names]
  if "" in names:
    raise ValueError(
      f"class {names.index('')} of {len(names)} has no name; give each class a word"
    )
  templates = TEMPLATE_SETS[set_name]
  return [[template.replace("{}", name) for template in templates] for name in names]
