"""Fine-tuning of a fusion model on tasks of vision and language.

  python -m experiments.finetune --config=configs/finetune.py:vqa --init_from=RUN

RUN is the folder of `experiments.pretrain --config=configs/fusion.py`; its model is
taken. With `--config.model.size=micro` and no RUN the task is learnt from scratch.

| preset          | task                                              | metric    | time    |
|-----------------|---------------------------------------------------|-----------|---------|
| smoke           | vqa on few questions, from scratch                | VQA's     | 1 min   |
| vqa (default)   | questions about one large object, said in words   | VQA's     | 3 min   |
| easy_vqa        | questions about drawings, from local files        | VQA's     | not run |
| vqa_rad         | questions about radiological pictures, the same   | VQA's     | not run |
| assignment      | which of two pictures a caption is about, or none | accuracy  | 3 min   |
| statements      | statements about two pictures: true or false      | NLVR's    | 3 min   |
| statements_lone | more kinds of them, from a run of `statements`    | NLVR's    | 3 min   |
| nlvr_assignment | as assignment, of three pictures, before nlvr_v1  | accuracy  | not run |
| nlvr_v1         | human sentences about drawings, from local files  | NLVR's    | 3 min   |
| entailment      | what a partly covered picture says of a sentence  | SNLI-VE's | not run |
| coco_entailment | sentences about photographs, from local files     | NLVR's    | not run |
| retrieval       | captions and pictures, reranked by matching       | recall@k  | not run |

Two CPU cores; "not run" means not to its end.

Overrides of every preset but retrieval and the assignments:

  --config.sees=text     the baseline that sees no picture; image: the one without text
"""

import ml_collections

from configs import fusion


def get_config(preset: str = "vqa") -> ml_collections.ConfigDict:
  """Config of a preset; unknown presets are refused."""
  presets = {
    "smoke": _smoke,
    "vqa": _vqa,
    "easy_vqa": _easy_vqa,
    "vqa_rad": _vqa_rad,
    "assignment": _assignment,
    "statements": _statements,
    "statements_lone": _statements_lone,
    "nlvr_assignment": _nlvr_assignment,
    "nlvr_v1": _nlvr_v1,
    "entailment": _entailment,
    "coco_entailment": _coco_entailment,
    "retrieval": _retrieval,
  }
  if preset not in presets:
    raise ValueError(f"unknown preset '{preset}'; known: {', '.join(presets)}")
  return presets[preset]()


def _base(method, name, **data):
  """What all tasks share; a fusion model's own knobs are left out but for `model`."""
  c = fusion.get_config("quick")
  for key in ("view", "target_momentum", "objective", "structures", "rerank"):
    del c[key]
  del c["evaluate"]
  c.method = method
  c.epochs = 8
  c.model.update(size="", context=0)  # of the run that it starts from
  c.sees = "both"
  # At 1e-3 yes and no, and statements, stay at chance for longer.
  c.optimizer.learning_rate = 3e-4
  c.data.update(train_limit=10000, test_limit=2000)
  c.data.update(name=name, **data)
  return c


def _answering(name, **data):
  c = _base("answering", name, **data)
  # context: most tokens of an answer, its ends counted. listed: answers to choose from,
  # the commonest; 0 for all. most: those scored as a whole, by their first token.
  c.answers = ml_collections.ConfigDict(dict(context=6, listed=0, most=128))
  return c


def _vqa():
  c = _answering("scenes_questions_easy", train_limit=20000)
  c.epochs = 2  # more questions do more than more epochs
  return c


def _smoke():
  c = _vqa()
  c.update(epochs=2, batch=32, log_every=2)
  c.model.size = "micro"
  c.data.update(train_limit=256, test_limit=128)
  return c


def _easy_vqa():
  return _answering("easy_vqa", image_size=64, test_limit=0)


def _vqa_rad():
  c = _answering("vqa_rad", image_size=64, train_limit=0, test_limit=0)
  c.epochs = 20
  c.answers.update(context=12, listed=500)
  return c


def _assignment():
  c = _base("assigning", "scenes_text_easy", train_limit=20000)
  del c.sees
  c.epochs = 2
  c.pictures = 2
  c.data.test_limit = 1000
  return c


def _nlvr_assignment():
  c = _assignment()
  c.pictures = 3
  return c


def _statements():
  c = _base("judging", "scenes_statements_easy", train_limit=20000)
  c.epochs = 2
  return c


def _statements_lone():
  c = _statements()
  c.data.name = "scenes_statements_lone"
  return c


def _nlvr_v1():
  c = _base("judging", "nlvr_v1", train_limit=0, test_limit=0)
  c.epochs = 10
  return c


def _entailment():
  return _base("judging", "scenes_entailment", image_size=64)


def _coco_entailment():
  c = _base("judging", "coco_entailment", image_size=64, train_limit=0, test_limit=0)
  c.epochs = 20
  return c


def _retrieval():
  c = fusion.get_config("quick")
  c.epochs = 4
  c.model.update(size="", context=0)
  c.objective.update(masking=0.0, all_captions=True)
  c.optimizer.learning_rate = 1e-3
  c.evaluate.update(zero_shot=False, probe=False, few_shot=False, attributes=())
  return c
