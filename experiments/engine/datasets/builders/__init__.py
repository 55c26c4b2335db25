"""Data sets that `experiments.prepare` can make from local files."""

from experiments.engine.datasets.builders import caltech101, cifar, fashion_mnist, stl10
from experiments.engine.datasets.builders.recipe import Recipe

RECIPES: dict[str, Recipe] = {
  recipe.name: recipe
  for recipe in (
    fashion_mnist.RECIPE,
    cifar.CIFAR10,
    cifar.CIFAR100,
    stl10.RECIPE,
    caltech101.RECIPE,
  )
}
