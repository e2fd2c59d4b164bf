"""Measures how long a checkpoint stalls training, and how long a restore takes.

  python benchmarks/checkpoint.py --model=ViT-B/16

The state, with Adam's moments and averaged weights, is saved to a local disk.
Each repetition times some steps without a save, then saves in the background
while as many steps run, or more until the save is complete. `stall` is the time
beyond that of the same number of undisturbed steps, in seconds and in steps;
`call` is the time that the training loop spends in the call itself. The peer
writes the same arrays with `torch.save`, which is synchronous, and reads them
back.
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
    '--folder', help='Where to save; default: the temporary folder.'
  )
  return parser.parse_args()


class _Loop:
  """A training loop whose steps are timed."""

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

  def time_step(self) -> float:
    """Takes a step; returns its seconds."""
    begin = time.perf_counter()
    self.state, _ = self._step(self.state, self._batch)
    jax.block_until_ready(self.state)
    return time.perf_counter() - begin


def _save(loop, store, number, options) -> dict[str, float]:
  undisturbed = [loop.time_step() for _ in range(options.steps)]
  begin = time.perf_counter()
  store.save(number, loop.state)
  call = time.perf_counter() - begin
  during_save = []
  while number not in store.steps() or len(during_save) < options.steps:
    during_save.append(loop.time_step())
  store.wait()
  step = statistics.median(undisturbed)
  stall = time.perf_counter() - begin - len(during_save) * step
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
  """Times `torch.save` and `torch.load`; None if PyTorch is not installed."""
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
  """Saves and restores, alternating with the peer."""
  options = _options()
  cpu.prepare()
  print(timing.describe_machine())
  loop = _Loop(options)
  loop.time_step()
  size = sum(x.nbytes for x in jax.tree.leaves(loop.state))
  print(f'{options.model}, {size / 2**30:.2f} GiB of state')
  measured = {}
  with tempfile.TemporaryDirectory(dir=options.folder) as folder:
    folder = pathlib.Path(folder)
    with store_lib.Store(folder / 'checkpoints', keep=1) as store:
      for number in range(1, options.repetitions + 1):
        saved = _save(loop, store, number, options)
        saved['restore'] = _restore(store, loop.state)
        if peer := _peer(loop.state, folder):
          saved['torch.save'], saved['torch.load'] = peer
        for name, value in saved.items():
          measured.setdefault(name, []).append(value)
  units = dict.fromkeys(measured, 's') | {'steps': 'steps'}
  names = {'steps': 'stall'}
  timing.show(
    ['', 'median', 'lowest', 'highest', ''],
    [
      [
        names.get(name, name),
        *(f'{v:.3f}' for v in (statistics.median(values), *_ends(values))),
        units[name],
      ]
      for name, values in measured.items()
    ],
  )


def _ends(values):
  return min(values), max(values)


if __name__ == '__main__':
  main()
