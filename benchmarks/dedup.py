"""Matching speed of the de-duplication job, on random hashes.

  python benchmarks/dedup.py

Streams a million hashes past those of 50,000 test images, each of them upright
and mirrored, whole and cropped, as the job does. A thousand of the million are
stored hashes with up to 35 bits flipped, and all have to be found. Prints
time, processor time and peak memory. `--others` and `--tests` set the numbers.
"""

import argparse
import resource
import time

import numpy as np

from vit_jax.data import near_duplicates

BATCH = 1024
NUM_PLANTED = 1000


def random_hashes(rng: np.random.Generator, count: int) -> np.ndarray:
  """Hashes of which every bit is a coin toss."""
  size = (count, near_duplicates.HASH_BITS // 8)
  return rng.integers(0, 256, size, dtype=np.uint8)


def plant(
  rng: np.random.Generator, others: np.ndarray, stored: np.ndarray
) -> dict[int, int]:
  """Puts near copies among the others; returns where, and of which."""
  rows = rng.choice(len(others), NUM_PLANTED, replace=False)
  sources = rng.choice(len(stored), NUM_PLANTED, replace=False)
  for row, source in zip(rows, sources, strict=True):
    bits = np.unpackbits(stored[source])
    count = rng.integers(0, near_duplicates.RADIUS)
    bits[rng.choice(near_duplicates.HASH_BITS, count, replace=False)] ^= 1
    others[row] = np.packbits(bits)
  return dict(zip(rows.tolist(), sources.tolist(), strict=True))


def main():
  """Builds, searches, reports."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--others', type=int, default=1_000_000)
  parser.add_argument('--tests', type=int, default=50_000)
  options = parser.parse_args()
  rng = np.random.default_rng(0)
  whole, crop = (random_hashes(rng, options.tests) for _ in range(2))
  both = np.concatenate([whole, near_duplicates.mirrored(whole)])
  every = np.concatenate([both, crop, near_duplicates.mirrored(crop)])
  # Of the others, the whole is compared with all, the crop with the whole.
  total, found, planted_in_all = 0.0, 0, 0
  for name, stored in (('whole', every), ('crop', both)):
    others = random_hashes(rng, options.others)
    planted = plant(rng, others, stored)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    index = near_duplicates.HashIndex(stored)
    pairs = set()
    for start in range(0, len(others), BATCH):
      rows, items, _ = index.near(others[start : start + BATCH])
      pairs.update(zip((rows + start).tolist(), items.tolist(), strict=True))
    seconds = time.perf_counter() - begin
    cpu_seconds = time.process_time() - begin_cpu
    hits = sum(pair in pairs for pair in planted.items())
    print(
      f'{name}: {len(others):,} hashes against {len(stored):,} in'
      f' {seconds:.0f} s ({cpu_seconds:.0f} s of all cores), {hits} of'
      f' {len(planted)} planted neighbours found,'
      f' {len(pairs) - hits} other candidates'
    )
    total += seconds
    found += hits
    planted_in_all += len(planted)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'{total:.0f} s in all, {peak:.2f} GiB at most')
  if found != planted_in_all:
    raise SystemExit('planted neighbours were missed')


if __name__ == '__main__':
  main()
