"""The quickstart's sentence about its probe."""

from experiments import quickstart


def test_the_verdict_names_what_the_probe_is_measured_against():
  final = {"probe/top1": 0.746, "chance/top1": 0.042}
  assert quickstart.verdict(final) == (
    "A linear probe names 74.6 % of the test pictures; by chance 4.2 %."
  )
  assert quickstart.verdict(final | {"probe/untrained_top1": 0.406}) == (
    "A linear probe names 74.6 % of the test pictures; on the same network before "
    "pretraining 40.6 %; by chance 4.2 %."
  )
