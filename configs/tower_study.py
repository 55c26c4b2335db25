"""Which latent structure helps, and what it costs: the runs behind docs/tower_study.md.

  python -m experiments.sweep --config=configs/tower_study.py:scenes --grid=scenes

| preset           | what                                         | hardware    | time a run |
|------------------|----------------------------------------------|-------------|------------|
| scenes (default) | scenes_text_easy at 32 px, 8 epochs          | 2 CPU cores | 2 min      |
| icons            | mdi_icons at 32 px, 8 epochs                 | 2 CPU cores | 2 min      |
| smoke            | scenes, 1 epoch of 1,280                     | 2 CPU cores | < 1 min    |

Grids: `tuning` tries four settings of each arm on two seeds and other examples than
those of the result; `scenes` and `icons` are the results, each arm at its best setting.
"""

import ml_collections

from configs import towers


def get_config(preset: str = "scenes") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  presets = {
    "smoke": _smoke,
    "scenes": _scenes,
    "icons": towers.read_icons,
    "tune_scenes": _tune_scenes,
    "tune_icons": _tune_icons,
  }
  if preset not in presets:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(presets)}")
  config = towers.get_config("quick")
  config.arm = ""  # what a grid calls the run; compare groups by it
  # One block is enough for short captions, and costs a seventh of two: it works out
  # the last token only.
  config.towers.text.encoder.update(depth=1, context=24)
  config.evaluate.few_shot_classifiers = ("ridge",)
  presets[preset](config)
  return config


def tuning() -> list[dict]:
  """Four settings of each arm, on two seeds."""
  rates = (3e-3, 6e-3)
  points = [_arm("CLIP", rate) for rate in (7.5e-4, 1.5e-3, *rates)]
  points += [_arm("four", rate) for rate in (1.5e-3, *rates, 1e-2)]
  for name, weights in (
    ("separation", (0.3, 1.0)),
    ("bridge", (0.1, 0.5)),
    ("geometry", (2.0, 16.0)),
  ):
    points += [_arm(name, rate, **{name: w}) for rate in rates for w in weights]
  for separation, bridge, geometry in ((0.3, 0.1, 2.0), (1.0, 0.5, 16.0)):
    points += [
      _arm("all", rate, separation=separation, bridge=bridge, geometry=geometry)
      for rate in rates
    ]
  return [point | {"seed": seed} for seed in (200, 201) for point in points]


def scenes() -> list[dict]:
  """The arms on scenes, each at its best setting, on five fresh seeds."""
  return _seeds(
    # Tuning preferred 3e-3 for CLIP by .01, which the five seeds do not bear out: the
    # stronger baseline stands.
    _arm("CLIP", 1.5e-3),
    _arm("CLIP, twice as long", 1.5e-3) | {"epochs": 16},
    _arm("four", 3e-3),
    _arm("separation", 6e-3, separation=0.3),
    _arm("bridge", 3e-3, bridge=0.1),
    _arm("geometry", 6e-3, geometry=2.0),
    _arm("all", 6e-3, separation=0.3, bridge=0.1, geometry=2.0),
  )


def icons() -> list[dict]:
  """The arms on icons with people's words, each at its best setting, on five seeds."""
  return _seeds(
    _arm("CLIP", 3e-3),
    _arm("CLIP, twice as long", 3e-3) | {"epochs": 16},
    _arm("four", 6e-3),
    _arm("separation", 6e-3, separation=0.3),
    _arm("bridge", 6e-3, bridge=0.5),
    _arm("geometry", 6e-3, geometry=2.0),
    _arm("all", 3e-3, separation=0.3, bridge=0.1, geometry=2.0),
  )


def _seeds(*arms: dict) -> list[dict]:
  # Seeds outermost: a sweep that is stopped has as many of each arm.
  return [arm | {"seed": seed} for seed in range(100, 105) for arm in arms]


def _arm(name: str, rate: float, **weights: float) -> dict:
  terms = "two" if name.startswith("CLIP") else "four"
  point = {"arm": name, "objective.terms": terms, "optimizer.learning_rate": rate}
  return point | {f"structures.{k}.weight": w for k, w in weights.items()}


def _scenes(c):
  c.data.update(name="scenes_text_easy", train_limit=8000)


def _smoke(c):
  _scenes(c)
  c.epochs = 1
  c.data.update(train_limit=1280, test_limit=200)
  c.evaluate.shots = (1, 5)


def _tune_scenes(c):
  _scenes(c)
  c.data.test = "test[4000:5000]"


def _tune_icons(c):
  towers.read_icons(c)
  c.data.update(train="train[:90%]", test="train[90%:]")
