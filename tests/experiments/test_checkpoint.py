"""Checkpoints: what is read is what was saved, or it is said and set aside."""

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.engine import digests, errors
from experiments.engine.checkpoint import Checkpoints

# Orbax leaves coroutines behind when it meets a damaged file.
pytestmark = [
  pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
  pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _coroutines_are_collected():
  yield
  gc.collect()  # here, where their warnings are known


def state(step):
  """A state with every kind of leaf: types, optax's tuples, empty parts."""
  kernel = jnp.arange(12.0).reshape(3, 4) + step
  return {
    "step": jnp.int32(step),
    "params": {"kernel": kernel, "bias": jnp.ones(3, jnp.bfloat16)},
    "opt_state": optax.adam(1e-3).init({"kernel": kernel}),
    "seen": jnp.array([True, False, True]),
    "count": jnp.arange(5, dtype=jnp.uint8),
    "nothing": (),
  }


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


def save(folder, steps, losses=None):
  with Checkpoints(folder) as checkpoints:
    for i, step in enumerate(steps):
      checkpoints.save(step, state(step), losses[i] if losses else 1.0)
  return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  return save(tmp_path_factory.mktemp("saved"), (1, 2))


def test_a_digest_changes_with_any_bit_and_with_places():
  rng = np.random.default_rng(0)
  for dtype in (np.float32, np.uint8, np.int32, jnp.bfloat16):
    x = np.asarray(rng.standard_normal((4, 6)) * 100).astype(dtype)
    expected = digests.of_tree([x])
    assert digests.of_tree([x.copy()]) == expected
    for _ in range(20):
      raw = bytearray(x.tobytes())
      raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
      flipped = np.frombuffer(bytes(raw), x.dtype).reshape(x.shape)
      assert digests.of_tree([flipped]) != expected
    assert digests.of_tree([x[::-1].copy()]) != expected
    assert digests.of_tree([x.reshape(6, 4)]) != expected


def test_a_digest_does_not_depend_on_the_layout():
  x = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
  mesh = Mesh(np.array(jax.devices()), ("data",))
  split = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
  assert digests.of_tree([split]) == digests.of_tree([x])


def test_a_state_comes_back_whole(saved):
  with Checkpoints(saved) as checkpoints:
    equal(checkpoints.restore(state(0)), state(2))
  with Checkpoints(saved) as checkpoints:
    tree = checkpoints.restore_tree()
  np.testing.assert_array_equal(tree["params"]["kernel"], state(2)["params"]["kernel"])


def test_a_state_comes_back_on_other_devices(saved):
  mesh = Mesh(np.array(jax.devices()[:4]), ("data",))
  template = jax.device_put(state(0), NamedSharding(mesh, PartitionSpec()))
  with Checkpoints(saved) as checkpoints:
    equal(checkpoints.restore(template), state(2))


def test_the_latest_two_and_the_best_stay(tmp_path):
  save(tmp_path, range(1, 6), [3.0, 1.0, 2.0, float("nan"), 4.0])
  kept = {int(p.name) for p in (tmp_path / "checkpoints").iterdir()}
  assert kept == {2, 4, 5}


def _files(folder):
  return sorted(p for p in (folder / "checkpoints" / "2").rglob("*") if p.is_file())


def _check(folder, capsys):
  """Damage to step 2 is harmless, or said, and then step 1 is read."""
  with Checkpoints(folder) as checkpoints:
    found = checkpoints.restore(state(0))
  text = capsys.readouterr().out
  if "checkpoint 2 is damaged" in text:
    equal(found, state(1))
    assert len(list((folder / "damaged").iterdir())) == 1
    return True
  equal(found, state(2) if int(found["step"]) == 2 else state(1))
  return False


def test_no_flipped_bit_is_read_as_a_state(saved, tmp_path, capsys):
  """The many flips are in benchmarks/survive.py; here two in each file."""
  rng = np.random.default_rng(0)
  found = []
  for i in range(2 * len(_files(saved))):
    folder = shutil.copytree(saved, tmp_path / str(i))
    file = _files(folder)[i // 2]
    raw = bytearray(file.read_bytes())
    raw[rng.integers(len(raw))] ^= 1 << rng.integers(8)
    file.write_bytes(bytes(raw))
    found.append(_check(folder, capsys))
  assert sum(found) >= 5  # or the flips would prove nothing


@pytest.mark.parametrize("how", ["truncated", "missing"])
def test_no_truncated_or_missing_file_is_read_as_a_state(how, saved, tmp_path, capsys):
  for i, _ in enumerate(_files(saved)):
    folder = shutil.copytree(saved, tmp_path / str(i))
    file = _files(folder)[i]
    if how == "missing":
      file.unlink()
    else:
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    _check(folder, capsys)


def test_damage_to_all_steps_is_an_error_and_deletes_nothing(saved, tmp_path):
  folder = shutil.copytree(saved, tmp_path / "run")
  for step in ("1", "2"):
    shutil.rmtree(folder / "checkpoints" / step / "state" / "d")
    shutil.rmtree(folder / "checkpoints" / step / "state" / "ocdbt.process_0")
  with Checkpoints(folder) as checkpoints:
    with pytest.raises(errors.UserError, match=r"all checkpoints .* are damaged"):
      checkpoints.restore(state(0))
  assert len(list((folder / "damaged").iterdir())) == 2


def test_another_model_is_refused_and_not_taken_for_damage(saved):
  template = state(0) | {"count": jnp.zeros(7, jnp.uint8)}
  with Checkpoints(saved) as checkpoints:
    with pytest.raises(errors.UserError, match=r"count: uint8\[5\] there, uint8\[7\]"):
      checkpoints.restore(template)
    assert checkpoints.latest() == 2


def test_an_empty_folder_says_to_train_first(tmp_path):
  with Checkpoints(tmp_path) as checkpoints:
    with pytest.raises(errors.UserError, match="train first"):
      checkpoints.restore(state(0))


def test_a_full_disk_is_one_sentence_and_the_step_before_is_whole(
  tmp_path, monkeypatch
):
  save(tmp_path, (1,))
  with Checkpoints(tmp_path) as checkpoints:

    def full(*args, **kwargs):
      raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    with pytest.raises(errors.UserError, match=r"No space left .* step 1 is whole"):
      checkpoints.save(2, state(2))
  with Checkpoints(tmp_path) as checkpoints:
    equal(checkpoints.restore(state(0)), state(1))
