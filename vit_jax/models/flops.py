"""Floating-point operations (FLOPs) of a function, counted in its trace.

XLA's `cost_analysis` counts the body of a loop once, whatever its length; this
module counts the body of a scan as often as it runs.
"""

from collections.abc import Callable
import math
from typing import Any

import flax.linen as nn
import jax
from jax.extend import core
import jax.numpy as jnp

EXA = 1e18


def count(function: Callable, *args: Any) -> int:
  """Counts FLOPs of matrix products and convolutions, 2 per multiply-add.

  Values that the backward pass recomputes (rematerialization) count again.
  Element-wise operations, about 1 % of a ViT's, are not counted.

  Args:
    function: function to trace; it is not run.
    *args: arrays, or their `jax.ShapeDtypeStruct`.

  Raises:
    ValueError: if a loop of unknown length contains products.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def forward(model: nn.Module, image_size: tuple[int, int]) -> int:
  """Counts the FLOPs of a forward pass on one image of (height, width) px."""
  image = jax.ShapeDtypeStruct((1, *image_size, model.channels), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), image)
  return count(model.apply, params, image)


def forward_as_compiled(model: nn.Module, image_size: tuple[int, int]) -> float:
  """Returns XLA's FLOP count of the forward pass, before optimization.

  It includes element-wise operations, and is always that of the program for
  CPUs, as other compilers give no count.

  Raises:
    ValueError: if the model is a scan over its blocks.
  """
  if getattr(model, 'scan', False):
    raise ValueError(
      'XLA counts the body of a scan once, so it cannot count the FLOPs of'
      ' a model with scan=True; pass the model with scan=False.'
    )
  image = jax.ShapeDtypeStruct((1, *image_size, model.channels), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), image)
  with jax.default_device(jax.local_devices(backend='cpu')[0]):
    lowered = jax.jit(model.apply).lower(params, image)
  return lowered.cost_analysis()['flops']


def training_exaflops(forward: float, num_images: float) -> float:
  """Returns the compute of a training run in exaFLOPs (Table 6, Figure 5).

  A training step costs as much as three forward passes, as the backward pass
  computes gradients of inputs and of weights. This reproduces the ViT rows of
  Table 6 within 2.0 %, with 303 million images per epoch and no head.

  Args:
    forward: FLOPs of the forward pass on one image, by either count, for a
      model with `num_classes=0`, as the paper seems to have counted.
    num_images: number of images in the run, repetitions included.
  """
  return 3 * forward * num_images / EXA


def _count(jaxpr: core.Jaxpr) -> int:
  return sum(_operations(equation) for equation in jaxpr.eqns)


def _operations(equation: core.JaxprEqn) -> int:
  name, params = equation.primitive.name, equation.params
  if name == 'dot_general':
    (contracted, _), _ = params['dimension_numbers']
    sizes = equation.invars[0].aval.shape
    depth = math.prod(sizes[axis] for axis in contracted)
    return 2 * math.prod(equation.outvars[0].aval.shape) * depth
  if name == 'conv_general_dilated':
    kernel = equation.invars[1].aval.shape
    layout = params['dimension_numbers'].rhs_spec  # Outputs, inputs, window.
    depth = math.prod(kernel[axis] for axis in layout[1:])
    return 2 * math.prod(equation.outvars[0].aval.shape) * depth
  if name == 'scan':
    return params['length'] * _count(params['jaxpr'].jaxpr)
  if name == 'cond':
    return max(_count(branch.jaxpr) for branch in params['branches'])
  inner = sum(_count(jaxpr) for jaxpr in _inner_jaxprs(params))
  if name == 'while' and inner:
    raise ValueError(
      'matrix products in a while loop cannot be counted, since its length is'
      ' unknown; write it as a scan.'
    )
  return inner


def _inner_jaxprs(params: dict[str, Any]) -> list[core.Jaxpr]:
  found = []
  for value in params.values():
    if isinstance(value, core.ClosedJaxpr):
      found.append(value.jaxpr)
    elif isinstance(value, core.Jaxpr):
      found.append(value)
  return found
