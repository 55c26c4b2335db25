"""The price of alignment on finite alphabets: theorem, exact price, edge cases."""

import math

import numpy as np
import pytest

from multimodal import gap
from tests import oracle


def _joints(count, seed, **knobs):
  rng = np.random.default_rng(seed)
  for number in range(count):
    yield rng, gap.block_joint(rng, blocks=1 + number % 4, **knobs)


def _information(joint):
  """I(A; B) by the double loop."""
  value = 0.0
  for a in range(joint.shape[0]):
    for b in range(joint.shape[1]):
      if joint[a, b] > 0:
        value += joint[a, b] * math.log(
          joint[a, b] / (sum(joint[a]) * sum(joint[:, b]))
        )
  return value


def test_mutual_information_and_conditional_entropy():
  rng = np.random.default_rng(0)
  joint = rng.dirichlet(np.ones(12)).reshape(3, 4)
  joint[1, 2] = 0
  joint /= joint.sum()
  assert gap.mutual_information(joint) == pytest.approx(_information(joint))
  entropy = -sum(p * math.log(p) for p in joint.sum(axis=1))
  given = entropy - _information(joint)
  assert gap.conditional_entropy(joint) == pytest.approx(given)
  independent = np.outer([0.2, 0.8], [0.5, 0.3, 0.2])
  assert gap.mutual_information(independent) == pytest.approx(0, abs=1e-15)
  assert gap.mutual_information(np.eye(4) / 4) == pytest.approx(math.log(4))
  assert gap.conditional_entropy(np.eye(4) / 4) == pytest.approx(0, abs=1e-15)


def test_information_of_a_modality_ignores_the_other():
  joint = next(_joints(1, 1))[1]
  assert gap.text_information(joint) == pytest.approx(_information(joint.sum(axis=1)))
  assert gap.image_information(joint) == pytest.approx(_information(joint.sum(axis=0)))
  swapped = np.swapaxes(joint, 0, 1)
  assert gap.information_gap(swapped) == pytest.approx(gap.information_gap(joint))
  assert gap.aligned_price(swapped) == pytest.approx(gap.aligned_price(joint))


def test_the_common_part_of_blocks_is_the_block():
  joint = np.zeros((4, 4))
  joint[np.ix_([0, 2], [1, 3])] = 1 / 6
  joint[1, 0] = 1 / 3
  text, image = gap.common_part(joint)
  assert text.tolist() == [0, 1, 0, -1]  # the last symbols have no mass
  assert image.tolist() == [1, 0, -1, 0]
  # A chain of overlaps is one component.
  chain = (np.eye(4) + np.eye(4, k=1)) / 7
  assert gap.common_part(chain)[0].tolist() == [0, 0, 0, 0]
  assert gap.common_part(np.eye(3) / 3)[1].tolist() == [0, 1, 2]


def test_block_joints_have_the_blocks_asked_for():
  for number, (_, joint) in enumerate(_joints(40, 2, symbols=5)):
    assert joint.sum() == pytest.approx(1)
    text, image = gap.common_part(joint)
    assert text.max() == image.max() == number % 4


def test_exact_price_and_theorem_over_every_aligned_encoder_pair():
  """0 violations; the common part is as good as the best pair there is."""
  pairs, slack = 0, []
  for _, joint in _joints(120, 3):
    bound, price = gap.information_gap(joint), gap.aligned_price(joint)
    prices = []
    for text, image in gap.aligned_encoders(joint):
      together = gap.encoded(joint, text, image).sum(axis=2)
      assert np.count_nonzero(together) == len(together)  # Z_T determines Z_V
      prices.append(gap.encoder_price(joint, text, image))
      assert prices[-1] >= bound - 1e-12
      slack.append(prices[-1] - bound)
    assert min(prices) == pytest.approx(price, abs=1e-12)
    pairs += len(prices)
  assert pairs >= 300
  assert min(slack) > -1e-12 and np.mean(slack) > 0.05


def test_the_theorem_over_two_thousand_joints():
  """Its bound never exceeds the exact price, of whatever support."""
  for classes in (2, 5):
    for _, joint in _joints(1000, classes, classes=classes):
      price, bound = gap.aligned_price(joint), gap.information_gap(joint)
      assert -1e-12 <= bound <= price + 1e-12
      assert price <= gap.joint_information(joint) + 1e-12


def test_encoders_linked_by_a_bijection_cost_the_same():
  for rng, joint in _joints(50, 5):
    text, image = gap.common_part(joint)
    renamed = rng.permutation(10)[image + 1]
    price = gap.encoder_price(joint, text, renamed)
    assert price == pytest.approx(gap.aligned_price(joint), abs=1e-12)


def test_tight_if_one_modality_is_a_function_of_the_other():
  """X_T = f(X_V): aligning on X_T costs the information gap and no more."""
  rng = np.random.default_rng(6)
  for _ in range(200):
    of = rng.permutation([0, 1, 2, *rng.integers(3, size=2)])
    joint = np.zeros((3, 5, 3))
    joint[of, np.arange(5)] = rng.dirichlet(np.ones(15)).reshape(5, 3)
    assert gap.aligned_price(joint) == pytest.approx(
      gap.information_gap(joint), abs=1e-12
    )
    price = gap.encoder_price(joint, np.arange(3), of)
    assert price == pytest.approx(gap.information_gap(joint), abs=1e-12)


def test_vacuous_for_separate_factors():
  """Y = (u_T, u_V): gap 0, price log 4."""
  joint = gap.separate_factors()
  assert gap.information_gap(joint) == pytest.approx(0, abs=1e-12)
  assert gap.aligned_price(joint) == pytest.approx(math.log(4))
  pairs = list(gap.aligned_encoders(joint))
  prices = [gap.encoder_price(joint, *pair) for pair in pairs]
  np.testing.assert_allclose(prices, math.log(4))
  assert gap.aligned_price(gap.separate_factors(3)) == pytest.approx(math.log(9))


def test_the_approximate_bound_over_two_thousand_encoder_pairs():
  reached = 0
  for rng, joint in _joints(2000, 7):
    text, image = rng.integers(3, size=4), rng.integers(3, size=4)
    price = gap.encoder_price(joint, text, image)
    bound = gap.approximate_bound(joint, text, image)
    assert price >= bound - 1e-12 and price >= -1e-12
    reached += bound > 0
  assert reached > 50  # it says something in many cases


def test_the_approximate_bound_of_aligned_encoders_is_the_theorem():
  for _, joint in _joints(20, 8):
    got = gap.approximate_bound(joint, *gap.common_part(joint))
    assert got == pytest.approx(gap.information_gap(joint), abs=1e-12)


def test_identity_encoders_cost_nothing_and_constants_everything():
  joint = next(_joints(1, 9))[1]
  names = np.arange(4)
  assert gap.encoder_price(joint, names, names) == pytest.approx(0, abs=1e-12)
  lost = gap.encoder_price(joint, 0 * names, 0 * names)
  assert lost == pytest.approx(gap.joint_information(joint))


def test_all_aligned_pairs_are_found():
  """Of two equal symbols a modality: one label for both, or their own."""
  found = [(a.tolist(), b.tolist()) for a, b in gap.aligned_encoders(np.eye(2) / 2)]
  assert found == [([0, 0], [0, 0]), ([0, 1], [0, 1])]
  full = list(gap.aligned_encoders(np.full((3, 3), 1 / 9)))
  assert len(full) == 1


def test_modality_gap_is_the_distance_of_the_means():
  rng = np.random.default_rng(0)
  z = oracle.unit(rng.standard_normal((20, 3)))
  assert gap.modality_gap(z, z[::-1]) == pytest.approx(0, abs=1e-15)
  assert gap.modality_gap(z, z + [3.0, 0.0, 4.0]) == pytest.approx(5)


def test_errors_name_the_cure():
  with pytest.raises(ValueError, match="divide by the sum"):
    gap.mutual_information(np.ones((2, 2)))
  with pytest.raises(ValueError, match="entries >= 0"):
    gap.mutual_information(np.array([[1.5, -0.5]]))
  with pytest.raises(ValueError, match="array of 3 axes"):
    gap.information_gap(np.eye(2) / 2)
  with pytest.raises(ValueError, match="use aligned_price"):
    next(gap.aligned_encoders(np.eye(6) / 6))
  with pytest.raises(ValueError, match="1 to 4 blocks, not 5"):
    gap.block_joint(np.random.default_rng(0), blocks=5)
