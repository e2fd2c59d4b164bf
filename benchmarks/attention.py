"""Compares the forms of attention: their rounding errors and times.

  python benchmarks/attention.py --models=ViT-B/16,ViT-L/16 --batch=256

Runs softmax(q k^T) v and its gradients on random queries, keys and values in
bfloat16, of the shape that they have in each model. Candidates alternate. An
error is |x - y| / |y|, where y is computed in float32 from the same rounded
inputs; the largest of the three gradients' errors is printed. The ratio is to
the plain form. Needs no TensorFlow.
"""

import argparse
from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

import ours
import timing
from vit_jax.models import kernels, vit

PLAIN = 'plain'
_CALLS = 10  # Per timing: a single call takes little longer than its start.


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--models', default='ViT-B/16,ViT-L/16')
  parser.add_argument('--image_size', type=int, default=224)
  parser.add_argument('--batch', type=int, default=256)
  parser.add_argument('--repetitions', type=int, default=11)
  return parser.parse_args()


def forms() -> dict[str, Callable[..., jax.Array]]:
  """Returns the forms that run on the first local device, by name."""
  by_name = {PLAIN: vit.attention, 'late division': kernels.late_division}
  if kernels.platform_of(jax.local_devices()[0]) == kernels.FLASH:
    by_name['cuDNN'] = kernels.flash
  return by_name


def inputs(
  name: str, image_size: int, batch_size: int
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
  """Returns queries, keys, values and a gradient of the result, in bfloat16."""
  model = ours.create(name)
  rows, columns = model.grid_shape(image_size)
  size = model.width // model.heads
  shape = batch_size, model.heads, rows * columns + 1, size
  keys = jax.random.split(jax.random.key(0), 4)
  query, *others = (jax.random.normal(key, shape, 'bfloat16') for key in keys)
  return query / jnp.sqrt(size).astype('bfloat16'), *others


def backward(attention: Callable[..., jax.Array]) -> Callable[..., tuple]:
  """Returns a function that computes the result and its three gradients."""

  def run(query, key, value, gradient):
    out, pull_back = jax.vjp(attention, query, key, value)
    return out, *pull_back(gradient)

  return run


@functools.partial(jax.jit, static_argnums=0)
def _errors(attention, *arrays):
  exact = backward(vit.attention)(*(x.astype('float32') for x in arrays))
  return [
    jnp.linalg.norm(x.astype('float32') - y) / jnp.linalg.norm(y)
    for x, y in zip(backward(attention)(*arrays), exact, strict=True)
  ]


def _compare(options, name) -> None:
  arrays = inputs(name, options.image_size, options.batch)
  # A few images show the errors; all in float32 would not fit in memory.
  few = [x[:8] for x in arrays]
  rows = {}
  for form, attention in forms().items():
    error, *gradient_errors = map(float, _errors(attention, *few))
    rows[form] = [f'{error:.1e}', f'{max(gradient_errors):.1e}']
  for work in ('forward', 'forward and backward'):
    calls = {}
    for form, attention in forms().items():
      run = jax.jit(attention if work == 'forward' else backward(attention))
      used = arrays[:3] if work == 'forward' else arrays
      calls[form] = functools.partial(_repeat, run, used)
    seconds = timing.alternate(calls, repetitions=options.repetitions)
    for form, times in seconds.items():
      each = [s / _CALLS for s in times]
      base = [s / _CALLS for s in seconds[PLAIN]]
      _, median, low, high, ratio = timing.time_row('', each, base, digits=3)
      rows[form] += [f'{median} ({low} to {high})', ratio]
  shape = 'x'.join(map(str, arrays[0].shape))
  print(f'attention of {name}, {shape} (images, heads, tokens, size)')
  head = ['', 'error', 'of gradients']
  head += ['forward, ms', 'ratio', 'with backward, ms', 'ratio']
  timing.show(head, [[form, *row] for form, row in rows.items()])


def _repeat(run, arrays) -> None:
  for _ in range(_CALLS):
    result = run(*arrays)
  jax.block_until_ready(result)


def main() -> None:
  """Compares the forms in the shapes of all models."""
  options = _options()
  print(timing.describe_machine())
  for name in options.models.split(','):
    _compare(options, name)


if __name__ == '__main__':
  main()
