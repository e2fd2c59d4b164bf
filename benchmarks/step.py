"""Forward pass and training step beside those of peers.

  python benchmarks/step.py --models=ViT-Ti/16,ViT-S/16
  python benchmarks/step.py --models=ViT-B/16 --batch=256 --dtype=bfloat16
  python benchmarks/step.py --guard=1.0

Peers are Hugging Face's ViT and timm's on PyTorch, eager and compiled, as far
as they are installed; all take turns in one process. Prints medians and spread
in ms, the ratio to this package's median, and the share of the rate of a large
matrix product on the same machine, by the operations of a forward pass, three
times as many for a step. With `--guard=RATIO` it fails if a training step here
takes longer than RATIO times that of the fastest peer. Needs no TensorFlow.
"""

import argparse
import functools
import statistics
import sys

import jax

import ours
import peers
import timing
from vit_jax.models import flops


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--models', default='ViT-Ti/16,ViT-S/16')
  parser.add_argument('--work', default='forward,step')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=16)
  parser.add_argument('--forward_batch', type=int, default=8)
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16')
  )
  parser.add_argument('--device', choices=('cpu', 'gpu'))
  parser.add_argument('--scan', action='store_true')
  parser.add_argument('--remat', default='none')
  parser.add_argument('--repetitions', type=int, default=7)
  parser.add_argument(
    '--peers', help='Separated by commas; all that import unless set.'
  )
  parser.add_argument('--guard', type=float)
  return parser.parse_args()


def _own_forward(options, name):
  params = jax.jit(
    functools.partial(
      ours.random_params, name, options.image_size, options.scan
    )
  )()
  model = ours.create(name, scan=options.scan, dtype=options.dtype)
  images = ours.batch(options.forward_batch, options.image_size)['image']
  forward = jax.jit(lambda params, x: model.apply({'params': params}, x)[0])
  return lambda: jax.block_until_ready(forward(params, images))


def _own_step(options, name):
  init, step = ours.training(
    name,
    image_size=options.image_size,
    scan=options.scan,
    remat=options.remat,
    dtype=options.dtype,
  )
  batch = ours.batch(options.batch, options.image_size)
  step = jax.jit(step, donate_argnums=0)
  state = jax.jit(init)()

  def call():
    nonlocal state
    state, metrics = step(state, batch)
    jax.block_until_ready((state, metrics))

  return call


_OURS = {'forward': _own_forward, 'step': _own_step}


def _compare(options, name, work, peak) -> float:
  """Prints a table; returns the ratio to the best peer, 0 without any."""
  is_step = work == 'step'
  batch_size = options.batch if is_step else options.forward_batch
  names = peers.installed()
  if options.peers is not None:
    names = [peer for peer in options.peers.split(',') if peer]
  if options.guard and not names:
    sys.exit('--guard needs a peer; install transformers and torch.')
  candidates = {'vit_jax': _OURS[work](options, name)}
  for peer in names:
    candidates[peer] = peers.step(
      peer,
      name,
      image_size=options.image_size,
      batch_size=batch_size,
      dtype=options.dtype,
      device=jax.default_backend(),
      train=is_step,
    )
  seconds = timing.alternate(candidates, repetitions=options.repetitions)
  operations = flops.forward(
    ours.create(name), (options.image_size, options.image_size)
  )
  operations *= batch_size * (3 if is_step else 1)
  print(
    f'{work} {name}, {batch_size} images of {options.image_size} px,'
    f' {options.dtype}, of {peak / 1e9:.0f} GFLOP/s'
  )
  rows = [
    [
      *timing.time_row(peer, times, seconds['vit_jax']),
      f'{operations / statistics.median(times) / peak:.1%}',
      f'{batch_size / statistics.median(times):.1f}',
    ]
    for peer, times in seconds.items()
  ]
  head = ['', 'ms', 'lowest', 'highest', 'ratio', 'of peak', 'images/s']
  timing.show(head, rows)
  own, *others = map(statistics.median, seconds.values())
  return own / min(others) if others else 0.0


def main() -> None:
  """Compares all models."""
  options = _options()
  if options.device:
    jax.config.update('jax_platforms', options.device.replace('gpu', 'cuda'))
  print(timing.describe_machine())
  peak = timing.matmul_peak(options.dtype)
  too_slow = []
  for name in options.models.split(','):
    for work in options.work.split(','):
      ratio = _compare(options, name, work, peak)
      if work == 'step' and options.guard and ratio > options.guard:
        too_slow.append(f'{name}: {ratio:.3f} times the fastest peer')
  if too_slow:
    sys.exit(f'slower than --guard={options.guard}: {"; ".join(too_slow)}')


if __name__ == '__main__':
  main()
