"""How long a checkpoint stalls training, and how long a restore takes.

  python benchmarks/checkpoint.py --model=ViT-B/16

Adam's state and averaged weights, on a local disk. Some steps run alone, then
one is saved in the background while as many follow, until the save is done. The
stall is what all of that took longer than the same number of steps alone, in
seconds and in steps; call is how long the loop waits in the call itself. A peer
saves the same arrays with `torch.save`, which is not in the background, and
reads them again.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np

import ours
import timing
from vit_jax.checkpoints import store as store_lib
from vit_jax.distributed import cpu


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--model', default='ViT-B/16')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--steps', type=int, default=4)
  parser.add_argument('--repetitions', type=int, default=3)
  parser.add_argument(
    '--folder', help='Where to; the temporary one unless set.'
  )
  return parser.parse_args()


class _Loop:
  """Training steps, each timed."""

  def __init__(self, options):
    init, step = ours.training(
      options.model,
      image_size=options.image_size,
      optimizer='adam',
      average=True,
    )
    self.state = jax.jit(init)()
    self._batch = ours.batch(options.batch, options.image_size)
    lowered = jax.jit(step, donate_argnums=0).lower(self.state, self._batch)
    self._step = ours.compile_step(lowered)

  def seconds(self) -> float:
    begin = time.perf_counter()
    self.state, _ = self._step(self.state, self._batch)
    jax.block_until_ready(self.state)
    return time.perf_counter() - begin


def _save(loop, store, number, options) -> dict[str, float]:
  alone = [loop.seconds() for _ in range(options.steps)]
  begin = time.perf_counter()
  store.save(number, loop.state)
  call = time.perf_counter() - begin
  beside = []
  while number not in store.steps() or len(beside) < options.steps:
    beside.append(loop.seconds())
  store.wait()
  step = statistics.median(alone)
  stall = time.perf_counter() - begin - len(beside) * step
  return {'call': call, 'stall': stall, 'step': step, 'steps': stall / step}


def _restore(store, state) -> float:
  target = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
  )
  begin = time.perf_counter()
  restored = store.restore(target)
  jax.block_until_ready(restored.state)
  return time.perf_counter() - begin


def _peer(state, folder) -> tuple[float, float] | None:
  """Seconds to save and to read with PyTorch; None without it."""
  try:
    import torch
  except ImportError:
    return None
  arrays = [torch.from_numpy(np.array(x)) for x in jax.tree.leaves(state)]
  path = folder / 'peer.pt'
  begin = time.perf_counter()
  torch.save(arrays, path)
  saved = time.perf_counter()
  torch.load(path)
  read = time.perf_counter()
  path.unlink()
  return saved - begin, read - saved


def main() -> None:
  """Saves and restores, in turns with the peer."""
  options = _options()
  cpu.prepare()
  print(timing.describe_machine())
  loop = _Loop(options)
  loop.seconds()
  size = sum(x.nbytes for x in jax.tree.leaves(loop.state))
  print(f'{options.model}, {size / 2**30:.2f} GiB of state')
  found = {}
  with tempfile.TemporaryDirectory(dir=options.folder) as folder:
    folder = pathlib.Path(folder)
    with store_lib.Store(folder / 'checkpoints', keep=1) as store:
      for number in range(1, options.repetitions + 1):
        saved = _save(loop, store, number, options)
        saved['restore'] = _restore(store, loop.state)
        if peer := _peer(loop.state, folder):
          saved['torch.save'], saved['torch.load'] = peer
        for name, value in saved.items():
          found.setdefault(name, []).append(value)
  units = dict.fromkeys(found, 's') | {'steps': 'steps'}
  names = {'steps': 'stall'}
  timing.show(
    ['', 'median', 'lowest', 'highest', ''],
    [
      [
        names.get(name, name),
        *(f'{v:.3f}' for v in (statistics.median(values), *_ends(values))),
        units[name],
      ]
      for name, values in found.items()
    ],
  )


def _ends(values):
  return min(values), max(values)


if __name__ == '__main__':
  main()
