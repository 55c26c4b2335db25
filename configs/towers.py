"""Pretraining of towers: CLIP's terms or four, and the latent structures.

  python -m experiments.pretrain --config=configs/towers.py:smoke

| preset           | what                                        | hardware    | time    |
|------------------|---------------------------------------------|-------------|---------|
| smoke            | procedural scenes, 2 epochs                 | 2 CPU cores | < 1 min |
| quick            | scenes at 32 px, 8 epochs                   | 2 CPU cores | 1 min   |
| scenes (default) | scenes at 64 px, tiny ResNet, micro text    | 2 CPU cores | 15 min  |
| two_languages    | English and German captions, no pictures    | 2 CPU cores | 3 min   |
| two_pictures     | two pictures of the same objects            | 2 CPU cores | 1 min   |
| three            | pictures, English and German captions       | 2 CPU cores | 3 min   |
| vectors          | paired_factors: two modalities of vectors   | 2 CPU cores | 1 min   |
| emoji            | noto_emoji: 72 px drawings with names       | 2 CPU cores | 5 min   |
| icons            | mdi_icons: 64 px drawings with names        | 2 CPU cores | 10 min  |
| clip_vit_b32     | CLIP's ViT-B/32 on coco_captions at 224 px  | 1 GPU       | not run |

A tower reads `input`: image, image_2 (the same objects in another picture), text or
text_de (in German) of scenes; image or text of other sets; empty for that of its kind.
Any number of towers may read them, each with an encoder of its own.

Every preset takes the arms of the comparison as overrides:

  --config.objective.terms=four                  in-modal terms too (needs views)
  --config.structures.separation.weight=1.0      deep feature separation
  --config.structures.bridge.weight=1.0          Brownian bridge
  --config.structures.geometry.weight=1.0        geometric consistency
  --config.objective.name=augmented              any objective on anchors
"""

import ml_collections
from ml_collections import config_dict

from configs.pretrain import get_config as get_pretrain_config


def get_config(preset: str = "scenes") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  presets = {
    "smoke": _smoke,
    "quick": _quick,
    "scenes": _scenes,
    "two_languages": _two_languages,
    "two_pictures": _two_pictures,
    "three": _three,
    "vectors": _vectors,
    "emoji": _emoji,
    "icons": read_icons,
    "clip_vit_b32": _clip_vit_b32,
  }
  if preset not in presets:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(presets)}")
  config = _base()
  presets[preset](config)
  return config


def sweep() -> list[dict]:
  """Points of `experiments.sweep`: seeds outermost, so that a stop leaves balance."""
  arms: list[dict] = [
    {"objective.terms": "two"},
    {"objective.terms": "four"},
    {"objective.terms": "four", "structures.separation.weight": 1.0},
    {"objective.terms": "four", "structures.bridge.weight": 1.0},
    {"objective.terms": "four", "structures.geometry.weight": 8.0},
    {
      "objective.terms": "four",
      "structures.separation.weight": 1.0,
      "structures.bridge.weight": 1.0,
      "structures.geometry.weight": 8.0,
    },
  ]
  return [arm | {"seed": seed} for seed in range(5) for arm in arms]


def _base():
  """What runs have in common with those on images, and what towers add."""
  shared = get_pretrain_config("scenes")
  c = ml_collections.ConfigDict()
  for name in (
    "seed",
    "data_dir",
    "dtype",
    "remat",
    "log_every",
    "save_every",
    "save_minutes",
    "keep",
    "skip_bad_steps",
    "resume",
    "init_from",
    "dry_run",
    "accum_steps",
    "mesh",
    "optimizer",
    "objective",
  ):
    c[name] = shared[name]
  c.method = "towers"
  c.batch = 128
  c.epochs = 20
  c.width = 128  # of the shared space, and of the specific ones

  c.data = ml_collections.ConfigDict(
    dict(
      name="scenes_text",
      image_size=64,
      train="train",
      test="test",
      train_limit=10000,
      test_limit=1000,
      mean=(0.5,),
      std=(0.25,),
    )
  )
  # view: augmented inputs for in-modal terms and structures; "" for none. frozen: ""
  # (all learns), encoder (the heads learn) or tower.
  c.towers = ml_collections.ConfigDict(
    dict(
      image=_tower("image", encoder="resnet_tiny", view="pairs"),
      text=_tower("text", encoder="text_micro", view="eda"),
    )
  )
  c.objective.terms = "two"  # two: every pair of towers, both ways; four: in-modal too
  c.objective.in_modal_weight = 1.0  # of an in-modal term, beside 1 of a cross-modal
  c.objective.temperature = 0.07  # where the learned one starts
  c.objective.learn_temperature = True
  c.structures = _structures()
  c.optimizer.update(learning_rate=1e-3, weight_decay=0.05, b2=0.98, warmup=0.05)
  c.evaluate = evaluation_settings()
  return c


def _tower(kind, *, encoder, view, reads="", **knobs):
  return dict(
    kind=kind, input=reads, encoder=dict(name=encoder, **knobs), view=view, frozen=""
  )


def _german():
  # The tokens were learnt on English: German takes three times as many, up to 84 for
  # two objects. Swapped or lost words would leave its grammar broken.
  return _tower(
    "text", reads="text_de", encoder="text_micro", view="synonyms", context=88
  )


def _structures():
  """A weight of 0 leaves a structure out. All weights are this project's choice."""
  t = config_dict.placeholder(float)
  c = ml_collections.ConfigDict(
    dict(
      separation=dict(
        weight=0.0, orthogonality=1.0, contrast=1.0, uniformity=1.0, t=2.0
      ),
      bridge=dict(weight=0.0, t=t),
      geometry=dict(weight=0.0, intra=1.0, inter=1.0, augmented=1.0, reduction="pairs"),
      penalty=dict(weight=0.0, kind="squared_distance"),
    )
  )
  c.bridge.t = 0.25  # nearer the other tower; None samples one an example
  return c


def evaluation_settings() -> ml_collections.ConfigDict:
  """What is measured on frozen towers; engine/evaluation/paired.py has more."""
  return ml_collections.ConfigDict(
    dict(
      seed=0,
      retrieval=True,
      zero_shot=True,
      prompts="scenes",
      probe=True,
      attributes=("class", "colour", "pose", "background", "style"),
      few_shot=True,
      shots=(1, 5, 20),
      draws=3,
      rows=4000,
      untrained=False,
    )
  )


def _smoke(c):
  c.epochs = 2
  c.batch = 32
  c.log_every = 2
  c.data.update(train_limit=256, test_limit=128, image_size=32)
  c.evaluate.update(shots=(1,), draws=2, attributes=("class", "pose"))


def _quick(c):
  c.epochs = 8
  c.data.update(train_limit=4000, test_limit=1000, image_size=32)


def _scenes(c):
  c.data.train_limit = 10000


def _two_languages(c):
  _quick(c)
  towers = dict(text=c.towers.text.to_dict(), text_de=_german())
  c.towers = ml_collections.ConfigDict(towers)
  c.evaluate.update(zero_shot=False, attributes=("class", "colour", "style"))


def _two_pictures(c):
  _quick(c)
  second = _tower("image", reads="image_2", encoder="resnet_tiny", view="pairs")
  towers = dict(image=c.towers.image.to_dict(), image_2=second)
  c.towers = ml_collections.ConfigDict(towers)
  c.evaluate.update(
    zero_shot=False, attributes=("class", "colour", "pose", "background")
  )


def _three(c):
  _quick(c)
  c.towers.text_de = _german()


def _vectors(c):
  c.epochs = 10
  c.data.update(name="paired_factors", train_limit=8000, test_limit=2000)
  c.towers = ml_collections.ConfigDict(
    {
      name: _tower("vector", reads=name, encoder="mlp", view="noise")
      for name in ("image", "text")
    }
  )
  c.evaluate.update(
    zero_shot=False, few_shot=False, attributes=("shared_0", "image_0", "text_0")
  )


def _emoji(c):
  c.data.update(name="noto_emoji", train_limit=0, test_limit=0)
  # Emoji have names and no classes.
  c.evaluate.update(probe=False, few_shot=False, zero_shot=False, attributes=())


def read_icons(c: ml_collections.ConfigDict) -> None:
  """Sets a config to icons, all of them, with their classes."""
  c.data.update(name="mdi_icons", train_limit=0, test_limit=0)
  c.evaluate.update(prompts="icons", attributes=("class",))


def _clip_vit_b32(c):
  c.data.update(
    name="coco_captions",
    image_size=224,
    test="val",
    train_limit=0,
    test_limit=5000,
    mean=(0.4815, 0.4578, 0.4082),
    std=(0.2686, 0.2613, 0.2758),
  )
  c.batch = 1024
  c.width = 512
  c.dtype = "bfloat16"
  c.towers.image.encoder = ml_collections.ConfigDict(dict(name="clip_vit_b32"))
  c.towers.text.encoder = ml_collections.ConfigDict(dict(name="text_base"))
  c.optimizer.update(learning_rate=5e-4, weight_decay=0.2, warmup=0.05)
  c.evaluate.update(probe=False, few_shot=False, zero_shot=False, attributes=())
