"""How fast scenes of several objects are painted and described.

  python -m benchmarks.scenes --sizes=32,64,128 --threads=1,2

Best of --repeats after one call to warm up; the ratio is to one thread at that size.
"""

import argparse
import time

from multimodal import scenes


def main() -> None:
  """Prints pictures and captions a second."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
  parser.add_argument("--sizes", default="32,64,128")
  parser.add_argument("--threads", default="1,2")
  parser.add_argument("--scenes", type=int, default=4096, help="at 64 pixels")
  parser.add_argument("--repeats", type=int, default=5)
  args = parser.parse_args()
  ids = scenes.split_ids("train", args.scenes * 4)

  print("| what | side | threads | a second | ratio |")
  print("| --- | ---: | ---: | ---: | ---: |")
  for size in map(int, args.sizes.split(",")):
    some = ids[: min(args.scenes * 4, args.scenes * 64**2 // size**2)]
    one = None
    for threads in map(int, args.threads.split(",")):
      work = lambda: scenes.paint(some, size=size, threads=threads)  # noqa: B023
      rate = len(some) / _best(work, args.repeats)
      one = one or rate
      print(
        f"| pictures | {size} | {threads} | {rate:,.0f} | {rate / one:.2f} |",
        flush=True,
      )
  which = range(5)
  some = ids[: args.scenes]
  seconds = _best(lambda: scenes.captions(some, which=which), args.repeats)
  print(f"| captions | | 1 | {len(some) * len(which) / seconds:,.0f} | |")


def _best(work, repeats: int) -> float:
  work()
  times = []
  for _ in range(repeats):
    start = time.perf_counter()
    work()
    times.append(time.perf_counter() - start)
  return min(times)


if __name__ == "__main__":
  main()
