"""Terms between towers: values against double loops, names, weights, objectives."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive
from contrastive import normalizer
from multimodal import aligning, terms
from multimodal.terms import Term
from tests import oracle
from tests.multimodal import towers_losses

SCALE = 3.0
NAMES = ("image", "text")


@functools.cache
def _rows(dtype=np.float32):
  """Unit rows by tower, of the inputs and of the augmented inputs, made in float64."""
  x = towers_losses.batch(n=5, dtype=np.float64)
  unit = lambda towers: {k: oracle.unit(z).astype(dtype) for k, z in towers.items()}
  return unit(x.shared), unit(x.shared_view)


def _two():
  shared, views = _rows()
  return {name: shared[name] for name in NAMES}, views


def _gradients(loss, field, tower):
  """By autodiff of `loss(x)` in float64 of that field's raw rows, and the inputs."""
  x = towers_losses.batch(n=4, d=3, dtype=np.float64)

  def moved(x, raw):
    towers = getattr(x, field) | {tower: raw}
    return x._replace(**{field: towers})

  with jax.enable_x64(True):
    mean = lambda raw: jnp.mean(loss(towers_losses.units(moved(x, raw))))
    grad = jax.jit(jax.grad(mean))(getattr(x, field)[tower])
  return x, moved, np.asarray(grad)


def test_terms_are_named_and_sorted_whatever_the_order_of_the_towers():
  names = [term.name for term in terms.alignment_terms(["text", "image"], "four")]
  assert names == ["image_to_text", "text_to_image", "image_to_image", "text_to_text"]
  three = terms.alignment_terms({"text": 0, "audio": 0, "image": 0})
  assert len(three) == 6 and not any(term.in_modal for term in three)
  assert three == terms.alignment_terms(["image", "text", "audio"], "two")
  assert len(terms.alignment_terms("abc", "four")) == 9


def test_two_terms_of_two_towers_are_info_nce():
  shared, _ = _two()
  expected = contrastive.info_nce(shared["image"], shared["text"], scale=SCALE)
  got = aligning.alignment_loss(shared, scale=SCALE)
  np.testing.assert_array_equal(got, expected)
  tiled = aligning.alignment_loss(shared, scale=SCALE, block_size=2)
  np.testing.assert_allclose(tiled, expected, rtol=1e-6)


@pytest.mark.parametrize("block_size", [None, 2])
def test_every_term_equals_the_double_loop(block_size):
  shared, views = _rows()
  anchors = aligning.alignment_anchors(
    shared, views, scale=SCALE, terms="four", block_size=block_size
  )
  assert len(anchors) == 9
  for term in terms.alignment_terms(shared, "four"):
    key = views[term.key] if term.in_modal else shared[term.key]
    expected = oracle.one_way(shared[term.query], key, SCALE)
    got = contrastive.softmax_loss(anchors[term.name])
    np.testing.assert_allclose(got, expected, rtol=1e-5, err_msg=term.name)


def test_four_terms_weigh_a_quarter_each_unless_told_otherwise():
  shared, views = _two()
  v, t, va, ta = (
    oracle.unit(z) for z in (*shared.values(), views["image"], views["text"])
  )
  cross = oracle.one_way(v, t, SCALE) + oracle.one_way(t, v, SCALE)
  inner = oracle.one_way(v, va, SCALE) + oracle.one_way(t, ta, SCALE)
  loss = functools.partial(
    aligning.alignment_loss, shared, views, scale=SCALE, terms="four"
  )
  np.testing.assert_allclose(loss(), (cross + inner) / 4, rtol=1e-5)
  np.testing.assert_allclose(loss(weights=(1, 3)), (cross + 3 * inner) / 8, rtol=1e-5)
  np.testing.assert_allclose(loss(weights=(2.0, 0.0)), cross / 2, rtol=1e-5)


def _printed(z, a, scale):
  """The paper's formula as it stands: the row itself among the candidates."""
  values = []
  for j in range(len(z)):
    total = sum(math.exp(scale * oracle.dot(z[j], other)) for other in z)
    values.append(-math.log(math.exp(scale * oracle.dot(z[j], a[j])) / total))
  return np.array(values)


@pytest.mark.parametrize("block_size", [None, 2])
def test_the_printed_in_modal_term(block_size):
  shared, views = _two()
  how = dict(scale=SCALE, block_size=block_size)
  expected = {k: _printed(shared[k], views[k], SCALE) for k in NAMES}
  got = aligning.printed_in_modal(shared["text"], views["text"], **how)
  np.testing.assert_allclose(got, expected["text"], rtol=1e-5)
  loss = aligning.alignment_loss(shared, views, terms="four", literal=True, **how)
  cross = oracle.info_nce(shared["image"], shared["text"], SCALE)
  inner = (expected["image"] + expected["text"]) / 2
  np.testing.assert_allclose(loss, (cross + inner) / 2, rtol=1e-5)


@pytest.mark.parametrize("literal", [False, True])
def test_gradient_equals_finite_differences(literal):
  kind = dict(terms="four", literal=literal)

  def loss(x):
    towers = {name: x.shared[name] for name in NAMES}
    return aligning.alignment_loss(towers, x.shared_view, scale=SCALE, **kind)

  inner = _printed if literal else oracle.one_way

  def expected(x):
    v, t = (oracle.unit(x.shared[name]) for name in NAMES)
    va, ta = (oracle.unit(x.shared_view[name]) for name in NAMES)
    four = oracle.one_way(v, t, SCALE) + oracle.one_way(t, v, SCALE)
    return np.mean(four + inner(v, va, SCALE) + inner(t, ta, SCALE)) / 4

  for field in ("shared", "shared_view"):
    x, moved, grad = _gradients(loss, field, "image")
    numeric = oracle.gradient(
      lambda raw, x=x, moved=moved: expected(moved(x, raw)), getattr(x, field)["image"]
    )
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


def test_three_equal_towers_align_like_two():
  shared, _ = _rows()
  same = dict.fromkeys("abc", shared["image"])
  pair = dict.fromkeys("ab", shared["image"])
  np.testing.assert_allclose(
    aligning.alignment_loss(same, scale=SCALE),
    aligning.alignment_loss(pair, scale=SCALE),
    rtol=1e-6,
  )


def test_identical_rows_are_at_chance():
  one = np.tile(np.array([[0.6, 0.8]], np.float32), (7, 1))
  towers = {"a": one, "b": one}
  loss = aligning.alignment_loss(towers, towers, scale=100.0, terms="four")
  np.testing.assert_allclose(loss, math.log(7), rtol=1e-5)


@pytest.mark.parametrize(
  "anchor_loss", [contrastive.decoupled_loss, contrastive.flat_loss]
)
def test_any_objective_on_anchors(anchor_loss):
  shared, views = _two()
  how = dict(scale=SCALE, terms="four")
  got = aligning.alignment_loss(shared, views, anchor_loss=anchor_loss, **how)
  anchors = aligning.alignment_anchors(shared, views, **how)
  each = [anchor_loss(anchor) for anchor in anchors.values()]
  np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-6)


def test_a_running_normaliser_for_every_term_and_example():
  """The recipe of the module's docstring: what is stacked stays apart."""
  shared, views = _two()
  chosen = terms.alignment_terms(shared, "four")
  anchors = aligning.alignment_anchors(shared, views, scale=SCALE, terms=chosen)
  stacked = contrastive.stack_rows(*anchors.values())
  examples, index = 9, np.array([4, 0, 8, 3, 5])
  state = normalizer.init(len(chosen) * examples)
  rows = contrastive.copy_index(index, len(chosen))
  assert len(set(rows.tolist())) == 20
  log_s = contrastive.log_normalizer(stacked)
  state, log_v = normalizer.update(state, rows, log_s)
  values = terms.split_terms(contrastive.augmented_loss(stacked, log_v), chosen)
  assert int(jnp.sum(state.count > 0)) == 20
  for term in chosen:
    own = normalizer.init(examples)
    log_s = contrastive.log_normalizer(anchors[term.name])
    _, own_v = normalizer.update(own, index, log_s)
    expected = contrastive.augmented_loss(anchors[term.name], own_v)
    np.testing.assert_allclose(values[term.name], expected, rtol=1e-5)


def test_sigmoid_is_the_mean_over_unordered_pairs():
  shared, _ = _rows()
  got = aligning.sigmoid_alignment(shared, scale=SCALE, bias=-2.0)
  pairs = [("audio", "image"), ("audio", "text"), ("image", "text")]
  each = [oracle.pairwise_sigmoid(shared[a], shared[b], SCALE, -2.0) for a, b in pairs]
  np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-5)
  renamed = {"a": shared["text"], "b": shared["image"], "c": shared["audio"]}
  other = aligning.sigmoid_alignment(renamed, scale=SCALE, bias=-2.0)
  np.testing.assert_allclose(np.mean(other), np.mean(got), rtol=1e-6)


def test_errors_name_the_cure():
  shared, views = _two()
  loss = functools.partial(aligning.alignment_loss, scale=SCALE)
  with pytest.raises(ValueError, match="need views of tower image, text; pass views="):
    loss(shared, terms="four")
  with pytest.raises(ValueError, match="need views of tower text"):
    loss(shared, {"image": views["image"]}, terms="four")
  with pytest.raises(ValueError, match="two or more towers"):
    loss({"image": shared["image"]})
  with pytest.raises(ValueError, match="'three'; known: two, four"):
    loss(shared, terms="three")
  with pytest.raises(ValueError, match="not sound"):
    loss(shared, terms=[Term("image", "sound")])
  with pytest.raises(ValueError, match="not an empty list"):
    loss(shared, terms=[])
  with pytest.raises(ValueError, match="width 3 and tower 'image' of width 4"):
    loss({**shared, "text": shared["text"][:, :3]})
  with pytest.raises(ValueError, match="4 rows and tower 'image' 5"):
    loss({**shared, "text": shared["text"][:4]})
  with pytest.raises(ValueError, match="anchor_loss at its default"):
    loss(shared, views, literal=True, anchor_loss=contrastive.flat_loss)
  with pytest.raises(ValueError, match="without a positive share"):
    loss(shared, weights=(0.0, 1.0))
  with pytest.raises(ValueError, match="without a positive share"):
    loss(shared, views, terms="four", weights=(1.0, -1.0))
  with pytest.raises(ValueError, match="inverse temperature"):
    loss(shared, scale=0.0)
