"""Fine-tuning of fusion models: every task trains from a run, and is measured."""

import json
import os
import signal

import jax
import numpy as np
import pytest

from configs import finetune as finetune_config
from configs import fusion as fusion_config
from experiments import finetune, pretrain
from experiments.engine import errors, loop, mesh, record, session, task_run
from experiments.engine.evaluation import prediction_files
from experiments.engine.finetuning import asked, judging
from experiments.engine.pretraining import fusion_start, trained
from experiments.engine.step import Batch
from multimodal import fusion
from tests.experiments.test_trust import at_step, lines

TASKS = ("vqa", "statements", "entailment", "assignment", "retrieval")
SIZE = 16


@pytest.fixture(scope="module", autouse=True)
def nano():
  """A size that compiles in no time, on one device."""
  small = {"width": 24, "depth": 1, "heads": 2, "unroll": 4}
  image, text = {**small, "patch": 8}, {**small, "context": 24}
  size = {"image": image, "text": text, "depth": 1, "width": 16, "unroll": 4}
  every = jax.devices()
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(fusion.SIZES, "nano", size)
    patch.setitem(fusion.SIZES, "wider", {**size, "image": {**image, "width": 48}})
    patch.setattr(jax, "devices", lambda *args: every[:1])
    yield every


@pytest.fixture(scope="module")
def pretrained(nano, tmp_path_factory):
  """Folder of a run of pretraining."""
  folder = tmp_path_factory.mktemp("fusion")
  c = fusion_config.get_config("smoke")
  c.data.update(train_limit=32, test_limit=16, image_size=SIZE)
  c.update(batch=16, epochs=1, log_every=1, rerank=0)
  c.model.size = "nano"
  c.objective.queue_size = 8
  c.evaluate.update(few_shot=False, probe=False, zero_shot=False, attributes=())
  pretrain.run(c, str(folder))
  return folder


def config(preset, start="", **changes):
  c = finetune_config.get_config(preset)
  c.data.update(train_limit=48, test_limit=24, image_size=SIZE)
  c.update(batch=16, epochs=2, log_every=1, save_minutes=0.0, init_from=str(start))
  if not start:
    c.model.size = "nano"
  if preset == "retrieval":
    c.objective.queue_size = 24
    c.rerank = 4
  c.update_from_flattened_dict(changes)
  return c


def built(c):
  """The task of a config, from the run that it names."""
  return task_run.build_task(fusion_start.found_start(c), mesh.data_mesh())


@pytest.fixture(scope="module")
def runs(pretrained, tmp_path_factory):
  """Folder and numbers of a run of each task."""
  made = {}
  for preset in TASKS:
    folder = tmp_path_factory.mktemp(preset)
    made[preset] = folder, finetune.run(config(preset, pretrained), str(folder))
  return made


def test_every_task_has_its_numbers_and_its_page(runs):
  for preset, (folder, final) in runs.items():
    assert record.read_json(folder / "summary.json").keys() == final.keys()
    assert np.isfinite(lines(folder)[-1]["loss"]) and len(lines(folder)) == 6
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Final numbers" in page and "nan" not in page.lower().split(), preset
    if preset == "retrieval":
      assert 0 <= final["reranked/image_to_text/recall@1"] <= 1
      continue
    assert 0 <= final["accuracy_low"] <= final["accuracy"] <= final["accuracy_high"]
    assert final["examples"] == 24
    assert (folder / "answers.png").exists() == (preset != "assignment")


def test_predictions_are_what_was_measured(runs):
  folder, final = runs["vqa"]
  c = config("vqa")
  _, test = asked.load_asked(c, 24)
  numbers = judging.question_numbers(test.questions.ids)
  for name, key in (("predictions", "accuracy"), ("predictions_free", "free/accuracy")):
    said = prediction_files.read_answers(folder / f"{name}.json", numbers)
    right = [x == y for x, y in zip(said, test.questions.answers, strict=True)]
    assert final[key] == pytest.approx(np.mean(right))
  assert final["answerable"] == 1 and final["accuracy/answer_type/yes/no/examples"]
  folder, final = runs["statements"]
  _, test = asked.load_asked(config("statements"), 24)
  truths = prediction_files.read_truths(folder / "predictions.csv", test.questions.ids)
  assert final["accuracy"] == pytest.approx(np.mean(truths == test.labels))
  assert 0 <= final["consistency"] <= final["accuracy"]
  folder, final = runs["entailment"]
  _, test = asked.load_asked(config("entailment"), 24)
  said = prediction_files.read_entailments(
    folder / "predictions.jsonl", test.questions.ids
  )
  assert final["accuracy"] == pytest.approx(np.mean(said == test.labels))


def test_training_starts_from_the_run_that_is_named(pretrained):
  found = trained.trained_variables(str(pretrained))[0]["params"]
  for preset in ("vqa", "statements", "retrieval"):
    c = config(preset, pretrained)
    task = built(c)
    params = session.initial_variables(c, task)["params"]
    model = params if preset == "retrieval" else params["model"]
    for part in ("image", "text", "fusion"):
      jax.tree.map(np.testing.assert_array_equal, model[part], found[part])
    if preset == "vqa":
      layers = params["decoder"]["layers"]
      jax.tree.map(np.testing.assert_array_equal, layers, found["fusion"])


def test_statements_start_from_an_assignments_comparing_layer(runs):
  start, _ = runs["assignment"]
  c = config("statements", start)
  task = built(c)
  params = session.initial_variables(c, task)["params"]
  found = trained.trained_variables(str(start))[0]["params"]
  jax.tree.map(np.testing.assert_array_equal, params["hidden"], found["hidden"])
  jax.tree.map(np.testing.assert_array_equal, params["model"], found["model"])
  assert params["answer"]["kernel"].shape != found["answer"]["kernel"].shape
  # A decoder has nothing to start from there, but for another decoder.
  with pytest.raises(errors.UserError, match="name its pretraining run"):
    fusion_start.start_task({"model": params["model"], "decoder": {}}, {}, str(start))
  start, _ = runs["vqa"]
  c = config("vqa", start)
  task = built(c)
  params = session.initial_variables(c, task)["params"]
  found = trained.trained_variables(str(start))[0]["params"]
  jax.tree.map(np.testing.assert_array_equal, params, found)


def test_a_stopped_run_goes_on_to_the_same_numbers(
  runs, pretrained, tmp_path, monkeypatch
):
  folder, final = runs["statements"]
  c = config("statements", pretrained)
  with monkeypatch.context() as patch:
    at_step(patch, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(errors.Stopped):
      finetune.run(c, str(tmp_path))
  again = finetune.run(c, str(tmp_path))
  assert lines(tmp_path) == lines(folder)
  for name in ("predictions.csv", "answers.png"):
    assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
  same = [name for name in again if not name.startswith("minutes")]
  assert {k: again[k] for k in same} == {k: final[k] for k in same}


@pytest.mark.parametrize(
  ("preset", "devices", "parts"), [("vqa", 8, 1), ("statements", 1, 2)]
)
def test_devices_and_parts_of_a_batch_change_nothing(
  preset, devices, parts, runs, nano, pretrained, monkeypatch
):
  folder, _ = runs[preset]
  first = lines(folder)[0]
  monkeypatch.setattr(jax, "devices", lambda *args: nano[:devices])
  c = config(preset, pretrained, accum_steps=parts)
  task = built(c)
  state, compiled, key, plan = session.begin(c, task)
  _, metrics = compiled(state, loop.draw(task.train_set, plan, 0), key)
  for name in ("loss", "grad_norm"):
    assert float(metrics[name]) == pytest.approx(first[name], rel=2e-4)


@pytest.mark.parametrize("preset", ["vqa", "statements"])
def test_baselines_do_not_see_what_they_must_not(preset):
  def looked(sees):
    task = built(config(preset, sees=sees))
    rows = np.arange(4)
    batch = Batch(task.train_set.inputs(rows, 0, 0), rows, task.train_set.labels[rows])
    params = task.network.init(jax.random.key(0), task.sample)["params"]
    look = lambda inputs: task.method.embed(
      params, {}, {}, batch._replace(inputs=inputs), jax.random.key(1)
    )[0]
    return batch.inputs, jax.jit(look)

  inputs, look = looked("image")
  assert inputs["text"].shape == (4, 2)  # their ends
  inputs, look = looked("text")
  other = inputs | {"image": 255 - inputs["image"]}
  np.testing.assert_array_equal(look(inputs), look(other))
  _, look = looked("both")
  assert float(np.abs(look(inputs) - look(other)).max()) > 0


def test_an_assignment_shows_the_captions_own_picture_where_it_says(pretrained):
  task = built(config("assignment", pretrained, pictures=3))
  data, rows = task.train_set, np.arange(48)
  own = data.pairs.columns["image"].pixels
  places = []
  for epoch in range(20):
    found = data.inputs(rows, epoch, 0)
    some = data.inputs(rows[5:9], epoch, 0)
    for name, values in some.items():
      np.testing.assert_array_equal(values, found[name][5:9])
    there = (found["image"] == own[:, None]).all((2, 3, 4))
    expected = np.arange(3)[None] == found["labels"][:, None]
    np.testing.assert_array_equal(there, expected)
    places.append(found["labels"])
  counts = np.bincount(np.concatenate(places), minlength=4)
  share = np.sqrt(0.25 * 0.75 / counts.sum())
  assert (np.abs(counts / counts.sum() - 0.25) < 4 * share).all()


def test_answers_of_several_humans_have_weights(monkeypatch):
  _, test = asked.load_asked(config("vqa"), 24)
  given = (("Two", "2", "three"), ("yes",)) + test.questions.given[2:]
  questions = test.questions.__class__(
    **{**test.questions.__dict__, "given": given, "label_names": ()}
  )
  made = asked.with_answers(asked.Asked(questions, test.tokens), 6)
  assert made.answers.tokens.shape == (24, 2, 6)
  np.testing.assert_allclose(made.answers.weights[0], [2 / 3, 1 / 3], rtol=1e-6)
  np.testing.assert_allclose(made.answers.weights[1], [1, 0])
  known = asked.known_answers(made)
  assert "2" in known and "Two" not in known
  assert asked.known_answers(made, 3) == known[:3]


@pytest.mark.parametrize(
  ("preset", "changes", "sentence"),
  [
    ("vqa", {"model.size": ""}, "which model"),
    ("vqa", {"sees": "txt"}, "unknown value of sees 'txt'"),
    ("vqa", {"answers.context": 2}, "at least 3 tokens"),
    ("vqa", {"data.name": "scenes_statements_easy"}, "about several pictures"),
    ("vqa", {"data.name": "cifar10"}, "has no questions"),
    ("vqa", {"method": "guess"}, "unknown method 'guess'"),
    ("vqa", {"init_from": "nowhere", "model.size": ""}, "no folder of a run"),
    ("assignment", {"pictures": 1}, "2 or more"),
    ("assignment", {"data.test_limit": 1}, "2 or more"),
    ("statements", {"model.size": "huge"}, "unknown model.size 'huge'"),
  ],
)
def test_what_makes_no_sense_is_one_sentence(preset, changes, sentence, tmp_path):
  c = config(preset)
  c.update_from_flattened_dict(changes)
  with pytest.raises(errors.UserError, match=sentence):
    finetune.run(c, str(tmp_path))
  assert not (tmp_path / "metrics.jsonl").exists()


def test_a_run_of_another_size_or_kind_is_refused(pretrained, tmp_path):
  c = config("vqa", pretrained)
  c.model.size = "wider"
  with pytest.raises(errors.UserError, match=r"init_from: parameter .* has shape"):
    finetune.run(c, str(tmp_path / "a"))
  (tmp_path / "images").mkdir()
  about = {"config": {"method": "simclr", "objective": {}}}
  (tmp_path / "images" / "run.json").write_text(json.dumps(about))
  with pytest.raises(errors.UserError, match="is a run of simclr; a task starts from"):
    finetune.run(config("vqa", tmp_path / "images"), str(tmp_path / "b"))


def test_a_sweep_is_where_the_run_of_the_arm_and_seed_is_found(pretrained, tmp_path):
  for arm, seed in (("a", 0), ("a", 1), ("b", 1)):
    folder = tmp_path / f"arm={arm},seed={seed}"
    folder.mkdir()
    about = record.read_json(pretrained / "run.json")
    about["config"] |= {"arm": arm, "seed": seed}
    (folder / "run.json").write_text(json.dumps(about))
  c = config("vqa", tmp_path, arm="a", seed=1)
  found = fusion_start.found_start(c)
  assert found.init_from == str(tmp_path / "arm=a,seed=1")
  assert found.model.size == "nano" and c.model.size == ""
  assert fusion_start.found_start(found) == found
  c.arm = "c"
  with pytest.raises(errors.UserError, match=r"none of the 3 runs .* arm 'c'"):
    finetune.run(c, str(tmp_path / "run"))


def test_each_drawing_of_an_example_is_judged_and_one_an_epoch_is_learnt(tmp_path):
  """Drawings like those of NLVR: three boxes, whose order differs."""
  boxes = np.zeros((4, SIZE, 4 * SIZE, 3), np.uint8)
  for drawing, box in enumerate((0.0, 1.5, 3.0, 0.0)):
    left = round(box * SIZE)
    boxes[drawing, :, left : left + SIZE] = 200 + drawing
  _, test = asked.load_asked(config("vqa"), 24)
  questions = test.questions.take(np.arange(2)).__class__(
    **{
      **test.questions.take(np.arange(2)).__dict__,
      "images": boxes,
      "image_index": np.array([[0, 1, 2], [3, 2, 1]], np.int32),
    }
  )
  made = asked.Asked(questions, test.tokens[:2], ((0.0, 1.0), (1.5, 2.5), (3.0, 4.0)))
  assert made.drawings == 3
  every = judging.Drawn(made)
  assert len(every) == 6
  found = every[np.arange(6)]
  assert found.shape == (6, 3, SIZE, SIZE, 3)
  # By drawing, then by example: which box is filled, and with what.
  filled = found.reshape(6, 3, -1).max(-1)
  expected = np.zeros((6, 3), int)
  for i, number in enumerate((0, 3, 1, 2, 2, 1)):
    expected[i, (0, 1, 2, 0)[number]] = 200 + number
  np.testing.assert_array_equal(filled, expected)
  seen = {made.inputs(np.array([0]), epoch, 0)["image"].max() for epoch in range(40)}
  assert seen == {200, 201, 202}
