import pytest

from configs import doctor as doctor_config
from experiments import doctor
from experiments.engine import errors


def test_a_device_that_computes_wrongly_is_named(tmp_path, monkeypatch, capsys):
  config = doctor_config.get_config("smoke")
  config.update(block_sizes=(0,), rows=8, product=8, simulated_devices=8)
  config.step.batch = 0
  original = doctor._value_and_grads

  def broken(config, name, devices, ring, block):
    found = original(config, name, devices, ring, block)
    if (devices, ring) == (2, True):
      found[1] = found[1] * 0.5  # the value is right, the gradient is not
    return found

  monkeypatch.setattr(doctor, "_value_and_grads", broken)
  with pytest.raises(errors.UserError, match="2 of 14 cases differ"):
    doctor.run(config, str(tmp_path))
  assert capsys.readouterr().out.count("WRONG") == 2
