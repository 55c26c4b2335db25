"""Data sets that `experiments.prepare` can make from local files."""

from experiments.engine.datasets.builders import (
  caltech101,
  cifar,
  coco_cc,
  coco_entailment,
  easy_vqa,
  fashion_mnist,
  mdi_icons,
  nlvr_v1,
  noto_emoji,
  stl10,
  vqa_rad,
)
from experiments.engine.datasets.builders.recipe import Recipe

# The sets whose pictures have captions; labels are rare among them.
CAPTIONED: dict[str, Recipe] = {
  recipe.name: recipe
  for recipe in (noto_emoji.RECIPE, mdi_icons.RECIPE, coco_cc.RECIPE)
}
# The sets of questions, or of sentences to judge, about pictures.
QUESTIONED: dict[str, Recipe] = {
  recipe.name: recipe
  for recipe in (
    nlvr_v1.RECIPE,
    vqa_rad.RECIPE,
    easy_vqa.RECIPE,
    coco_entailment.RECIPE,
  )
}
RECIPES: dict[str, Recipe] = {
  recipe.name: recipe
  for recipe in (
    fashion_mnist.RECIPE,
    cifar.CIFAR10,
    cifar.CIFAR100,
    stl10.RECIPE,
    caltech101.RECIPE,
    *CAPTIONED.values(),
    *QUESTIONED.values(),
  )
}
