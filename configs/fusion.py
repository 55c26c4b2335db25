"""Pretraining of a fusion model after ALBEF: contrast, matching, hidden words.

  python -m experiments.pretrain --config=configs/fusion.py:smoke

| preset          | what                                     | hardware    | time    |
|-----------------|------------------------------------------|-------------|---------|
| smoke           | one large object, 64 steps               | 2 CPU cores | 1 min   |
| quick (default) | one large object at 32 px, 8 epochs      | 2 CPU cores | 10 min  |
| scenes          | one or two objects at 64 px, 20 epochs   | 2 CPU cores | not run |
| albef           | ALBEF's sizes on coco_captions at 256 px | 8 GPUs      | not run |

Overrides that leave parts out, or add structures:

  --config.objective.matching=0.0                no image-text matching
  --config.objective.alpha=0.0                   no distillation from the momentum copy
  --config.structures.separation.weight=0.3      as of towers, with the momentum copy's
                                                 rows as the augmented ones
"""

import ml_collections

from configs import towers


def get_config(preset: str = "quick") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  presets = {"smoke": _smoke, "quick": _quick, "scenes": _scenes, "albef": _albef}
  if preset not in presets:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(presets)}")
  config = _base()
  presets[preset](config)
  return config


def _base():
  c = towers.get_config("quick")
  c.method = "fusion"
  c.arm = ""  # what a grid calls the run; compare groups by it
  del c.towers, c.mesh, c.width
  c.batch = 64
  c.view = "pairs"  # augmentation of the pictures; "" for none
  c.target_momentum = 0.995  # of the momentum copy, constant
  # 0: that of the size. `size`: micro, tiny or base (multimodal/fusion.py).
  c.model = ml_collections.ConfigDict(dict(size="micro", patch=0, context=0, width=0))
  c.objective = ml_collections.ConfigDict(
    dict(
      contrast=1.0,  # weights; 0 leaves a loss out
      matching=1.0,
      masking=1.0,
      mask_rate=0.15,
      queue_size=1024,  # pairs of keys of earlier batches; 0: none
      all_captions=False,  # a picture's captions in the queue are positives, too
      alpha=0.4,  # weight of the momentum copy's targets ...
      ramp_epochs=1.0,  # ... reached after so many epochs
      temperature=0.07,
      learn_temperature=True,
    )
  )
  c.data.name = "scenes_text_easy"
  c.rerank = 16  # nearest keys that the matching head puts in order; 0: none
  c.evaluate.few_shot_classifiers = ("ridge",)
  return c


def _smoke(c):
  c.epochs = 2
  c.batch = 32
  c.log_every = 2
  c.data.update(train_limit=1024, test_limit=128)
  c.objective.queue_size = 64
  c.evaluate.update(shots=(1,), draws=2, attributes=("class", "pose"))


def _quick(c):
  # Short runs: small batches take more steps, the copy follows sooner, and keys that
  # are many steps old would be told by their age alone.
  c.batch = 32
  c.view = ""
  c.target_momentum = 0.98
  c.model.context = 24
  c.objective.update(mask_rate=0.3, queue_size=64)
  c.data.train_limit = 8000


def _scenes(c):
  c.epochs = 20
  c.model.size = "tiny"
  c.data.update(name="scenes_text", image_size=64, train_limit=10000)


def _albef(c):
  c.data.update(
    name="coco_captions",
    image_size=256,
    test="val",
    train_limit=0,
    test_limit=5000,
    mean=(0.4815, 0.4578, 0.4082),
    std=(0.2686, 0.2613, 0.2758),
  )
  c.epochs = 30
  c.batch = 512
  c.dtype = "bfloat16"
  c.model.size = "base"
  c.objective.queue_size = 65536
  c.optimizer.update(learning_rate=1e-4, weight_decay=0.02, b2=0.999)
  c.rerank = 256
  c.evaluate.update(probe=False, few_shot=False, zero_shot=False, attributes=())
