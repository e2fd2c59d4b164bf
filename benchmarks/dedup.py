"""Measures the matching speed of the de-duplication job, on random hashes.

  python benchmarks/dedup.py

Compares a million hashes with those of 50,000 test images, each upright and
mirrored, whole and cropped, as the job does. A thousand of the million are
planted: stored hashes with up to 35 bits flipped, all of which have to be
found. Prints wall time, processor time and peak memory. `--others` and
`--tests` set the numbers of hashes.
"""

import argparse
import resource
import time

import numpy as np

from vit_jax.data import near_duplicates

BATCH = 1024
NUM_PLANTED = 1000


def random_hashes(rng: np.random.Generator, count: int) -> np.ndarray:
  """Returns hashes of independent, uniform bits, (count, bytes)."""
  size = (count, near_duplicates.HASH_BITS // 8)
  return rng.integers(0, 256, size, dtype=np.uint8)


def plant(
  rng: np.random.Generator, others: np.ndarray, stored: np.ndarray
) -> dict[int, int]:
  """Overwrites some of `others` with near copies of stored hashes.

  Returns:
    The stored row that each planted row of `others` is a copy of.
  """
  rows = rng.choice(len(others), NUM_PLANTED, replace=False)
  originals = rng.choice(len(stored), NUM_PLANTED, replace=False)
  for row, original in zip(rows, originals, strict=True):
    bits = np.unpackbits(stored[original])
    count = rng.integers(0, near_duplicates.RADIUS)
    bits[rng.choice(near_duplicates.HASH_BITS, count, replace=False)] ^= 1
    others[row] = np.packbits(bits)
  return dict(zip(rows.tolist(), originals.tolist(), strict=True))


def main():
  """Builds the index, searches it, and prints the results."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--others', type=int, default=1_000_000)
  parser.add_argument('--tests', type=int, default=50_000)
  options = parser.parse_args()
  rng = np.random.default_rng(0)
  whole, crop = (random_hashes(rng, options.tests) for _ in range(2))
  both = np.concatenate([whole, near_duplicates.mirrored(whole)])
  every = np.concatenate([both, crop, near_duplicates.mirrored(crop)])
  # A whole image is compared with every view, a crop only with whole images.
  total_seconds, num_found, num_planted = 0.0, 0, 0
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
      f' {seconds:.0f} s ({cpu_seconds:.0f} s of processor time), {hits} of'
      f' {len(planted)} planted neighbours found,'
      f' {len(pairs) - hits} other candidates'
    )
    total_seconds += seconds
    num_found += hits
    num_planted += len(planted)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(f'{total_seconds:.0f} s in total, {peak:.2f} GiB peak memory')
  if num_found != num_planted:
    raise SystemExit('some planted neighbours were not found')


if __name__ == '__main__':
  main()
