"""Image-text matching with hard negatives, the second loss of ALBEF.

A fusion network tells pairs from non-pairs. For every image one text of the batch that
is not its own is drawn, and for every text one image, the more similar the likelier
(Li et al. 2021, Align before Fuse, sec. 3.2). ALBEF draws among the rows of one device;
here the draw is over the global batch, and does not depend on how it is split:

  for_image, for_text = jax.random.split(key)
  how = dict(scale=scale, ids=ids, axis_name=axis_name)
  text_draw = hard_negatives(for_image, image, text_key, **how)
  image_draw = hard_negatives(for_text, text, image_key, **how)
  hard_texts = take_global(texts, text_draw.number, axis_name)  # states and masks
  hard_images = take_global(images, image_draw.number, axis_name)
  # Fuse (images, texts), (hard_images, texts), (images, hard_texts): 3n pairs, then
  how = dict(valid_image=image_draw.valid, valid_text=text_draw.valid)
  loss = matching_loss(pairs, with_hard_image, with_hard_text, **how, axis_name=...)
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from contrastive import axes, numerics
from contrastive.ring import walk
from contrastive.rows import own_columns
from multimodal.distillation import global_mean
from multimodal.pairing import wide

NO_MATCH, MATCH = 0, 1


class Negatives(NamedTuple):
  """One candidate for each of n rows.

  Attributes:
    number: [n] int32, its number in the global batch; the row's own without candidates.
    valid: [n] False where a row had no candidate.
  """

  number: jax.Array
  valid: jax.Array


def hard_negatives(
  key: jax.Array,
  query: jax.Array,
  candidate: jax.Array,
  *,
  scale: jax.Array | float,
  ids: jax.Array | None = None,
  axis_name: str | None = None,
) -> Negatives:
  """Draws a negative for each query, with probability prop. to e^(scale q_i . c_j).

  Args:
    key: typed PRNG key, the same on all devices; another one for each direction.
    query: [n, d] unit rows, such as images.
    candidate: [n, d] unit rows, such as texts or their momentum keys; row i is the
      partner of query i.
    scale: inverse temperature > 0.
    ids: as in `draw_negatives`.
    axis_name: device axis with the rest of the batch, or None.

  Raises:
    ValueError: shapes differ or the scale is not positive.
  """
  numerics.check_scale(scale)
  if query.ndim != 2 or query.shape != candidate.shape:
    raise ValueError(
      f"queries and candidates must be two [n, d] arrays of one shape, not "
      f"{query.shape} and {candidate.shape}"
    )
  query, candidate = jax.lax.stop_gradient((query, candidate))
  logits = scale * numerics.similarity(query, axes.gather(candidate, axis_name))
  return draw_negatives(key, logits, ids=ids, axis_name=axis_name)


def draw_negatives(
  key: jax.Array,
  logits: jax.Array,
  *,
  ids: jax.Array | None = None,
  axis_name: str | None = None,
) -> Negatives:
  """Draws for each row one other column, with probability prop. to e^logit.

  The largest of logit + Gumbel noise among the candidates: no probability underflows
  or is normalised, so that nothing fails at any temperature, in a batch of one, or in
  a row without candidates. Candidates are all columns but the row's own and those of
  its id. The noise of a row is drawn from (key, its global number): with the default
  generator of keys (threefry) it does not depend on the number of devices.

  Args:
    key: typed PRNG key, the same on all devices.
    logits: [n, N] of this device's rows with the rows of the global batch.
    ids: [n] integers; rows of equal ids are no negatives of each other (captions of
      one image). None if every row stands alone.
    axis_name: device axis with the rest of the batch of N rows, or None.

  Raises:
    ValueError: the shape of logits or ids.
  """
  n, total = logits.shape
  if total != n * axes.size(axis_name):
    raise ValueError(
      f"logits must have a column for each of the {n * axes.size(axis_name)} rows of "
      f"the global batch, not {total}; negatives come from the batch, not from a queue"
    )
  where = ~own_columns(n, total, axis_name)
  if ids is not None:
    if ids.shape != (n,):
      raise ValueError(f"ids must be [n], one for each of {n} rows, not {ids.shape}")
    where &= ids[:, None] != axes.gather(ids, axis_name)[None, :]
  own = jnp.arange(n, dtype=jnp.int32) + axes.row_offset(n, axis_name)
  noise = jax.vmap(
    lambda number: jax.random.gumbel(jax.random.fold_in(key, number), (total,))
  )(own)
  noisy = jnp.where(where, jax.lax.stop_gradient(wide(logits)) + noise, -jnp.inf)
  valid = jnp.any(where, axis=1)
  drawn = jnp.argmax(noisy, axis=1).astype(jnp.int32)
  return Negatives(jnp.where(valid, drawn, own), valid)


def take_global(
  rows: Any, index: jax.Array, axis_name: str | None = None, *, ring: bool = False
) -> Any:
  """Rows of the global batch by number; gradients flow back to the rows' owners.

  On several devices all rows are gathered: each holds N rows, 2 N for the gradient,
  and N = 512 images of 257 states of width 768 in float32 are 0.4 GB. With `ring` they
  go round the devices, each of which picks what it needs as they pass: it holds 2 n
  rows, 5 n for the gradient, sends as much, and waits for every step.

  Args:
    rows: pytree of arrays [n, ...]: states, masks, tokens.
    index: [j] integers in [0, N).
    axis_name: device axis with the rest of the batch of N rows, or None.
    ring: whether rows walk round the devices instead of being gathered.

  Returns:
    The same pytree of arrays [j, ...].
  """
  if ring and axis_name is not None:
    return _pick_on_the_way(rows, index, axis_name)
  return jax.tree.map(lambda x: x[index], axes.gather(rows, axis_name))


def matching_loss(
  logits: jax.Array,
  logits_hard_image: jax.Array,
  logits_hard_text: jax.Array,
  *,
  valid_image: jax.Array,
  valid_text: jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """Mean cross entropy of the true pairs and the valid hard ones of all devices.

  Entry 1 of the logits speaks for a match (`MATCH`), entry 0 against one.

  Args:
    logits: [n, 2] of the true pairs.
    logits_hard_image: [n, 2] of each text with its hard image.
    logits_hard_text: [n, 2] of each image with its hard text.
    valid_image: [n] booleans, `Negatives.valid` of the hard images.
    valid_text: [n] booleans, `Negatives.valid` of the hard texts.
    axis_name: device axis with the rest of the batch, or None.

  Returns:
    [] nats, the same on all devices; log 2 at chance with equal logits. What is not
    valid has no influence, whatever its logits are.

  Raises:
    ValueError: the shapes.
  """
  parts = (logits, logits_hard_image, logits_hard_text)
  lead, valid = _leads(parts, valid_image, valid_text)
  values = jax.nn.softplus(-jnp.where(valid, lead, 0))
  return global_mean(values, valid, axis_name)


def matching_accuracy(
  logits: jax.Array,
  logits_hard_image: jax.Array,
  logits_hard_text: jax.Array,
  *,
  valid_image: jax.Array,
  valid_text: jax.Array,
  axis_name: str | None = None,
) -> jax.Array:
  """Share of the same pairs that are told right; a tie counts half.

  Always saying "no match" has 2/3, if all negatives are valid. Arguments as in
  `matching_loss`.
  """
  parts = (logits, logits_hard_image, logits_hard_text)
  lead, valid = _leads(parts, valid_image, valid_text)
  right = (jnp.sign(lead) + 1) / 2
  return global_mean(jax.lax.stop_gradient(right), valid, axis_name)


def _leads(parts, valid_image, valid_text) -> tuple[jax.Array, jax.Array]:
  """[3n] by how much the right answer's logit is ahead, and which of them count."""
  n = valid_image.shape[0]
  shapes = [x.shape for x in parts]
  if set(shapes) != {(n, 2)} or valid_text.shape != (n,):
    raise ValueError(
      "matching takes three logits [n, 2] and two valid [n], not "
      f"{', '.join(map(str, shapes))}, {valid_image.shape} and {valid_text.shape}"
    )
  leads = [wide(x)[:, MATCH] - wide(x)[:, NO_MATCH] for x in parts]
  lead = jnp.concatenate([leads[0], -leads[1], -leads[2]])
  true = jnp.ones_like(valid_image)
  return lead, jnp.concatenate([true, valid_image, valid_text])


def _pick_on_the_way(rows: Any, index: jax.Array, axis_name: str) -> Any:
  """`take_global` while the devices' rows pass by."""
  n = jax.tree.leaves(rows)[0].shape[0]

  def pick(old, x, place, here):
    here = here.reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(here, x[place], old)

  def visit(picked, block, _):
    first, passing = block
    place = index - first
    here = (0 <= place) & (place < n)
    place = jnp.clip(place, 0, n - 1)
    return jax.tree.map(lambda o, x: pick(o, x, place, here), picked, passing), ()

  def nothing(x):
    zeros = jnp.zeros((index.shape[0], *x.shape[1:]), x.dtype)
    return axes.vary(zeros, x, index)

  first = jnp.asarray(axes.row_offset(n, axis_name), jnp.int32)
  picked, _ = walk(visit, jax.tree.map(nothing, rows), (first, rows), (), axis_name)
  return picked
