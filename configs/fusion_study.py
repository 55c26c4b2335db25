"""What a latent structure does for a fusion model's tasks: the runs of docs/fusion.md.

  python -m experiments.sweep --config=configs/fusion_study.py:pretraining --grid=pretraining --workdir=runs/fusion/pretraining
  python -m experiments.sweep --config=configs/fusion_study.py:vqa --grid=tasks --config.init_from=runs/fusion/pretraining --workdir=runs/fusion/vqa

| preset                | what                                                | time a run |
|-----------------------|-----------------------------------------------------|------------|
| pretraining (default) | scenes_text_easy at 32 px, 8 epochs of 8,000        | 6 min      |
| vqa                   | easy questions, as in configs/finetune.py           | 3 min      |
| statements            | easy statements about two pictures                  | 3 min      |
| nlvr_v1               | human sentences about drawings, from local files    | not run    |
| retrieval             | captions and pictures, reranked by matching         | not run    |
| smoke                 | pretraining on few examples                         | 1 min      |

Times are of one of two CPU cores. Grids: `tuning` (of `tune_pretraining`: other examples
than those of the result), `pretraining`, `tasks` (with the baselines that see one of
picture and text) and `finetuning` (without them, for retrieval).
"""

import functools

import ml_collections

from configs import finetune, fusion

# Weights are those that the tower study's tuning chose on scenes.
_ARMS: dict[str, dict[str, float]] = {
  "ALBEF-like": {},
  "separation": {"separation": 0.3},
  "bridge": {"bridge": 0.1},
  "geometry": {"geometry": 2.0},
}
_SEEDS = range(100, 105)
_BASELINES = [("ALBEF-like", "text"), ("ALBEF-like", "image")]
_TASKS = ("vqa", "statements", "nlvr_v1", "retrieval")


def get_config(preset: str = "pretraining") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  presets = {
    "smoke": _smoke,
    "pretraining": _pretraining,
    "tune_pretraining": _tune_pretraining,
  }
  presets |= {name: functools.partial(finetune.get_config, name) for name in _TASKS}
  if preset not in presets:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(presets)}")
  return presets[preset]()


def tuning() -> list[dict]:
  """Distillation or none, and without it two rates an arm, on a seed of its own."""
  points: list[dict] = [_arm("ALBEF-like", 200)]
  for rate in (7e-4, 1.5e-3):
    knobs = {"objective.alpha": 0.0, "optimizer.learning_rate": rate}
    points += [_arm(arm, 200) | knobs for arm in _ARMS]
  return points


def pretraining() -> list[dict]:
  """The arms on five seeds, at the preset's rate.

  It lies between the two that were tried, which differ by .03 at most in zero-shot.
  """
  return [_arm(arm, seed) for seed in _SEEDS for arm in _ARMS]


def finetuning() -> list[dict]:
  """A task from each run of `pretraining`."""
  return [{"arm": arm, "seed": seed} for seed in _SEEDS for arm in _ARMS]


def tasks() -> list[dict]:
  """A task from each run of `pretraining`, and its baselines from the first arm's."""
  points = []
  for seed in _SEEDS:
    for arm, sees in [(arm, "both") for arm in _ARMS] + _BASELINES:
      points.append({"arm": arm, "sees": sees, "seed": seed})
  return points


def _arm(name: str, seed: int) -> dict:
  weights = {f"structures.{key}.weight": w for key, w in _ARMS[name].items()}
  return {"arm": name} | weights | {"seed": seed}


def _pretraining():
  c = fusion.get_config("quick")
  c.evaluate.update(probe=False, few_shot=False)
  return c


def _tune_pretraining():
  c = _pretraining()
  c.data.test = "test[4000:5000]"
  return c


def _smoke():
  c = _pretraining()
  c.epochs = 1
  c.data.update(train_limit=640, test_limit=200)
  return c
