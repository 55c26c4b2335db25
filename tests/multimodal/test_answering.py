"""Answers in words: losses and ranking against a token-by-token reading."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from multimodal import answering, decoder, fusion
from multimodal.tokenizer import END, MASK, PAD, START

V = 40
LIST = np.array(
  [
    [START, 5, END, PAD, PAD],
    [START, 6, 7, END, PAD],
    [START, 6, 8, 9, END],
    [START, 10, END, PAD, PAD],
    [START, 5, 11, END, PAD],
  ],
  np.int32,
)


def _fusion():
  small = {"width": 24, "depth": 1, "heads": 2, "unroll": 4}
  image, text = {**small, "patch": 8}, {**small, "context": 8}
  return fusion.make_fusion(V, "micro", image=image, text=text, depth=1, width=8)


@pytest.fixture(scope="module")
def asked():
  """An answerer that tells its inputs apart, and three questions about pictures."""
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.standard_normal((3, 16, 16, 3)), jnp.float32)
  words = rng.integers(4, V, (3, 8))
  words[:, 0], words[:, 5], words[:, 6:] = START, END, PAD
  questions = jnp.asarray(words, jnp.int32)
  model = answering.Answerer(_fusion(), context=5)
  first = jnp.asarray(LIST[None, :1].repeat(3, axis=0))
  params = jax.jit(model.init)(jax.random.key(0), images, questions, first)["params"]
  params = jax.tree.map(lambda x: x * 4, params)
  call = lambda method: jax.jit(
    functools.partial(model.apply, {"params": params}, method=method)
  )
  memory, mask = call("look")(images, questions)
  return model, params, (images, questions), call("say"), (memory, mask)


def likelihood(say, memory, mask, answer):
  """Log likelihood of one answer, a token at a time, in float64."""
  total, row = 0.0, [int(x) for x in answer]
  for place in range(1, row.index(END) + 1):
    tokens = np.full((1, len(row)), PAD, np.int32)
    tokens[0, :place] = row[:place]
    logits = np.asarray(say(jnp.asarray(tokens), memory, mask), np.float64)
    logits = logits[0, place - 1]
    top = logits.max()
    total += logits[row[place]] - top - np.log(np.exp(logits - top).sum())
  return total


def every_likelihood(say, memory, mask):
  return np.array(
    [
      [likelihood(say, memory[i : i + 1], mask[i : i + 1], x) for x in LIST]
      for i in range(len(memory))
    ]
  )


def test_the_list_is_ranked_by_the_likelihood_of_whole_answers(asked):
  _, _, _, say, look = asked
  expected = every_likelihood(say, *look)
  scores, numbers = answering.rank_answers(say, *look, jnp.asarray(LIST))
  np.testing.assert_array_equal(numbers, np.arange(5)[None].repeat(3, axis=0))
  np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)


def test_a_long_list_is_cut_by_the_first_tokens(asked):
  _, _, _, say, look = asked
  whole = every_likelihood(say, *look)
  start = jnp.full((3, 1), START, jnp.int32)
  first = np.asarray(jax.nn.log_softmax(say(start, *look)[:, 0]))[:, LIST[:, 1]]
  scores, numbers = answering.rank_answers(say, *look, jnp.asarray(LIST), 3)
  assert scores.shape == numbers.shape == (3, 3)
  for i in range(3):
    assert len(set(numbers[i].tolist())) == 3
    # Those with the likeliest first tokens; of equal ones any.
    kept = first[i, np.asarray(numbers[i])]
    np.testing.assert_allclose(np.sort(kept)[::-1], np.sort(first[i])[::-1][:3])
    np.testing.assert_allclose(scores[i], whole[i, numbers[i]], rtol=1e-4, atol=1e-4)
  with pytest.raises(ValueError, match="0 are to be scored"):
    answering.rank_answers(say, *look, jnp.asarray(LIST), 0)
  with pytest.raises(ValueError, match="there are 0"):
    answering.rank_answers(say, *look, jnp.zeros((0, 5), jnp.int32))


def test_free_answers_are_greedy_and_end(asked):
  _, _, _, say, (memory, mask) = asked
  found = np.asarray(answering.generate_answers(say, memory, mask, 5))
  for i in range(3):
    row = [START]
    while len(row) < 5 and END not in row:
      tokens = np.array([row + [PAD] * (5 - len(row))], np.int32)
      logits = np.array(say(jnp.asarray(tokens), memory[i : i + 1], mask[i : i + 1]))
      logits[0, :, [PAD, START, MASK]] = -np.inf
      row.append(int(logits[0, len(row) - 1].argmax()) if len(row) < 4 else END)
    assert found[i].tolist() == row + [PAD] * (5 - len(row))


def test_an_answer_that_ends_is_followed_by_padding():
  # Says 7, then END, then 7 for ever.
  def say(tokens, memory, mask):
    word = jnp.where(jnp.arange(6) == 1, END, 7)
    return jax.nn.one_hot(jnp.broadcast_to(word[None], tokens.shape), V)

  found = answering.generate_answers(say, jnp.zeros((2, 1, 1)), jnp.ones((2, 1)), 6)
  assert found.tolist() == [[START, 7, END, PAD, PAD, PAD]] * 2


def test_the_loss_is_the_weighted_likelihood(asked):
  model, params, inputs, say, look = asked
  answers = jnp.asarray(LIST[np.array([[0, 1], [2, 3], [4, 0]])])
  weights = np.array([[0.7, 0.3], [1.0, 0.0], [0.5, 0.5]], np.float32)
  logits = model.apply({"params": params}, *inputs, answers)
  found = answering.answer_loss(logits, answers, jnp.asarray(weights))
  whole = every_likelihood(say, *look)
  expected = -np.array(
    [
      0.7 * whole[0, 0] + 0.3 * whole[0, 1],
      whole[1, 2],
      0.5 * whole[2, 4] + 0.5 * whole[2, 0],
    ]
  )
  np.testing.assert_allclose(found, expected, rtol=1e-4)
  # What stands behind the end, and an answer without weight, say nothing.
  other = answers.at[0, 0, 3:].set(9).at[1, 1].set(7)
  logits = model.apply({"params": params}, *inputs, other)
  again = answering.answer_loss(logits, other, jnp.asarray(weights))
  np.testing.assert_allclose(again, found, rtol=1e-5)


def test_an_answer_without_weight_has_no_gradient_even_if_impossible():
  logits = jnp.zeros((1, 2, 3, V)).at[0, 1].set(jnp.inf)
  answers = jnp.asarray(LIST[None, :2, :3])
  loss = lambda x: answering.answer_loss(x, answers, jnp.array([[1.0, 0.0]]))[0]
  value, grad = jax.value_and_grad(loss)(jnp.where(jnp.isinf(logits), 1e9, logits))
  np.testing.assert_allclose(value, 2 * np.log(V), rtol=1e-6)
  assert np.isfinite(grad).all() and not np.asarray(grad)[0, 1].any()


def test_tokens_are_counted_up_to_the_end_of_answers_that_weigh():
  answers = jnp.asarray(LIST[None, [1, 3]])
  right = jax.nn.one_hot(jnp.roll(answers, -1, axis=-1), V)
  wrong = right.at[0, 0, 1].set(jax.nn.one_hot(30, V))  # the second of three tokens
  for weights, share in (([0.5, 0.5], 4 / 5), ([1.0, 0.0], 2 / 3), ([0.0, 1.0], 1.0)):
    found = answering.token_accuracy(wrong, answers, jnp.array([weights]))
    np.testing.assert_allclose(found, [share], rtol=1e-6)


def test_without_its_picture_only_the_question_counts(asked):
  model, params, (images, questions), _, _ = asked
  answers = jnp.asarray(LIST[None, :2].repeat(3, axis=0))
  use = lambda images, present: model.apply(
    {"params": params}, images, questions, answers, jnp.asarray(present)
  )
  blind = use(images, [False, False, True])
  other = use(images + 1.0, [False, False, True])
  np.testing.assert_array_equal(blind[:2], other[:2])
  assert float(jnp.abs(blind[2] - other[2]).max()) > 1e-2


def test_attention_is_a_share_of_each_patch(asked):
  model, params, (images, questions), _, _ = asked
  use = lambda q: model.apply({"params": params}, images, q, method="attention")
  found = use(questions)
  assert found.shape == (3, 1, 4)
  total = np.asarray(found.sum((1, 2)))
  assert (np.asarray(found) >= 0).all() and (total > 0.1).all()
  assert (total < 1 + 1e-6).all()
  # Padding is no word: what stands there changes nothing.
  np.testing.assert_allclose(use(questions.at[:, 6:].set(9)), found, rtol=1e-5)


def test_its_decoder_starts_from_the_fusion_layers(asked):
  model, params, (images, questions), _, _ = asked
  pretrained = jax.jit(model.model.init)(jax.random.key(1), images, questions)["params"]
  started = decoder.start_from_fusion(params["decoder"], pretrained)
  assert jax.tree.structure(started) == jax.tree.structure(params["decoder"])
