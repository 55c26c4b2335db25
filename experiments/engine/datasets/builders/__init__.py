"""Data sets that `experiments.prepare` can make from local files."""

from experiments.engine.datasets.builders import (
  caltech101,
  cifar,
  coco_cc,
  fashion_mnist,
  mdi_icons,
  noto_emoji,
  stl10,
)
from experiments.engine.datasets.builders.recipe import Recipe

# The sets whose pictures have captions; labels are rare among them.
CAPTIONED: dict[str, Recipe] = {
  recipe.name: recipe
  for recipe in (noto_emoji.RECIPE, mdi_icons.RECIPE, coco_cc.RECIPE)
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
  )
}
