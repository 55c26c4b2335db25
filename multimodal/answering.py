"""Answers to questions about pictures, said word by word.

ALBEF (Li et al. 2021, Align before Fuse, sec. 5) takes visual question answering as
generation: a decoder, started from the fusion layers, looks at the fused states of
picture and question. It is trained on the answers that humans gave, each with its
weight. Asked, it scores a list of answers by their likelihood, or speaks freely.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from multimodal.decoder import decoder_like
from multimodal.fusion import Fusion
from multimodal.tasks import patch_attention
from multimodal.text_transformer import token_mask
from multimodal.tokenizer import END, MASK, PAD, START

# (tokens [m, t], memory [m, s, d], its mask [m, s]) -> logits [m, t, v].
Say = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

_TOGETHER = 8  # answers that are scored at a time: bounds the memory


class Answerer(nn.Module):
  """A fusion model with a decoder of answers.

  Attributes:
    model: the fusion model; its parameters are those under "model".
    context: most tokens of an answer, start and end counted.
  """

  model: Fusion
  context: int = 8

  def setup(self) -> None:
    """Makes the decoder, of the fusion layers' shapes."""
    self.decoder = decoder_like(self.model, context=self.context)

  def __call__(
    self,
    images: jax.Array,
    questions: jax.Array,
    answers: jax.Array,
    present: jax.Array | None = None,
  ) -> jax.Array:
    """Logits of the next token of each answer, given those before.

    Args:
      images: [n, h, w, c].
      questions: integers [n, t].
      answers: integers [n, k, a], k answers of each question.
      present: booleans [n], whether the picture is there to be looked at; None: all.

    Returns:
      Float32 [n, k, a, vocabulary]; those at place i are of token i + 1.
    """
    memory, mask = self.look(images, questions, present)
    n, k, length = answers.shape
    repeat = lambda x: jnp.repeat(x, k, axis=0)
    tokens = answers.reshape(n * k, length)
    logits = self.say(tokens, repeat(memory), repeat(mask))
    return logits.reshape(n, k, length, -1)

  def look(
    self, images: jax.Array, questions: jax.Array, present: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Fused states [n, t, d] of pictures and questions, and which count: [n, t]."""
    seen = self.model.encode_image(images)
    states = self.model.encode_text(questions)
    text = self.model.text
    words = token_mask(questions, end=text.end, pad=text.pad)
    mask = None
    if present is not None:
      mask = jnp.broadcast_to(present[:, None], seen.shape[:2])
    return self.model.fuse(states, words, seen, mask), words

  def attention(self, images: jax.Array, questions: jax.Array) -> jax.Array:
    """How much each patch is looked at: as `tasks.patch_attention`."""
    seen, states = self.model.encode_image(images), self.model.encode_text(questions)
    text = self.model.text
    words = token_mask(questions, end=text.end, pad=text.pad)
    weights = self.model.cross_attention(states, words, seen)
    return patch_attention(weights, words, 1)

  def say(self, answers: jax.Array, memory: jax.Array, mask: jax.Array) -> jax.Array:
    """Float32 logits [m, a, vocabulary] of answers [m, a] that look at memories."""
    return self.decoder(answers, memory, mask)


def answer_loss(logits: jax.Array, answers: jax.Array, weights: jax.Array) -> jax.Array:
  """Negative log likelihood of the answers to each question, weighted.

  Sum over answers of weight times the sum over their tokens, as ALBEF has it.

  Args:
    logits: [n, k, a, vocabulary] of `Answerer`.
    answers: integers [n, k, a].
    weights: [n, k], those of a question with sum 1 (`answers.answer_weights`); 0 for a
      place without an answer.

  Returns:
    Float32 [n], in nats.
  """
  likelihood = _token_likelihood(logits, answers).sum(-1)
  # An empty place has no tokens, but a weight of 0 must hold whatever it says.
  return -jnp.where(weights > 0, weights * likelihood, 0.0).sum(-1)


def token_accuracy(
  logits: jax.Array, answers: jax.Array, weights: jax.Array
) -> jax.Array:
  """Share [n] of the tokens of each question's answers that have the largest logit."""
  counts = _said(answers) & (weights > 0)[..., None]
  right = (jnp.argmax(logits[..., :-1, :], -1) == answers[..., 1:]) & counts
  total = counts.sum((-1, -2))
  return right.sum((-1, -2)) / jnp.maximum(total, 1)


def rank_answers(
  say: Say, memory: jax.Array, mask: jax.Array, candidates: jax.Array, most: int = 128
) -> tuple[jax.Array, jax.Array]:
  """Scores answers of a list by their likelihood.

  As ALBEF does, the `most` answers whose first tokens are the likeliest are scored as
  a whole, and the others not at all. With a list no longer than that it is exact.

  Args:
    say: of an `Answerer`, bound to parameters.
    memory: [n, s, d] of `Answerer.look`.
    mask: booleans [n, s].
    candidates: integers [c, a], the list.
    most: answers that are scored, at least 1.

  Returns:
    Log likelihoods float32 [n, k], and the numbers [n, k] of the answers that they are
    of, k = min(most, c).

  Raises:
    ValueError: an empty list, or most below 1.
  """
  if not len(candidates) or most < 1:
    raise ValueError(
      f"answers are ranked among one or more, of which at least one is scored; there "
      f"are {len(candidates)}, and {most} are to be scored"
    )
  n, k = len(memory), min(most, len(candidates))
  numbers = jnp.broadcast_to(jnp.arange(len(candidates))[None], (n, len(candidates)))
  if k < len(candidates):
    start = jnp.full((n, 1), START, jnp.int32)
    first = jax.nn.log_softmax(say(start, memory, mask)[:, 0])
    _, numbers = jax.lax.top_k(first[:, candidates[:, 1]], k)

  def score(chosen):
    answers = candidates[chosen]
    return _token_likelihood(say(answers, memory, mask), answers).sum(-1)

  scores = jax.lax.map(score, numbers.T, batch_size=min(_TOGETHER, k))
  return scores.T, numbers


def generate_answers(
  say: Say, memory: jax.Array, mask: jax.Array, context: int
) -> jax.Array:
  """The likeliest next token, again and again: greedy decoding.

  Args:
    say: of an `Answerer`, bound to parameters.
    memory: [n, s, d] of `Answerer.look`.
    mask: booleans [n, s].
    context: most tokens of an answer, start and end counted.

  Returns:
    int32 [n, context]: START, the answer, END, and PAD after it; an answer that would
    not end has its END in the last place.
  """
  n = len(memory)
  blank = jnp.full((n, context), PAD, jnp.int32).at[:, 0].set(START)
  # No answer holds these; END may come.
  never = jnp.array([PAD, START, MASK])

  def add(place, tokens):
    logits = say(tokens, memory, mask)[:, place - 1].at[:, never].set(-jnp.inf)
    ended = (tokens == END).any(1)
    word = jnp.where(place == context - 1, END, jnp.argmax(logits, -1))
    word = jnp.where(ended, PAD, word)
    return tokens.at[:, place].set(word.astype(jnp.int32))

  return jax.lax.fori_loop(1, context, add, blank)


def _said(answers: jax.Array) -> jax.Array:
  """Which of the tokens 1 to a - 1 count: [..., a - 1]."""
  flat = answers.reshape(-1, answers.shape[-1])
  return token_mask(flat).reshape(answers.shape)[..., 1:]


def _token_likelihood(logits: jax.Array, answers: jax.Array) -> jax.Array:
  """Log likelihood [..., a - 1] of each token but the first, 0 behind the end."""
  logs = jax.nn.log_softmax(logits[..., :-1, :].astype(jnp.float32))
  picked: Any = jnp.take_along_axis(logs, answers[..., 1:, None], axis=-1)[..., 0]
  return jnp.where(_said(answers), picked, 0.0)
