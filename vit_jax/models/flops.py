"""Floating-point operations of a function, counted from its trace.

XLA's own `cost_analysis` counts the body of a loop once, whatever its length;
here a scan over layers counts as often as it runs.
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
  """Operations of all matrix products and convolutions, 2 to a multiply-add.

  What is computed anew in a backward pass (rematerialisation) counts again.
  Element-wise work, about 1 % of a ViT's, is not counted.

  Args:
    function: traced, not run.
    *args: arrays, or their `jax.ShapeDtypeStruct`.

  Raises:
    ValueError: if there is a loop whose length the trace does not tell.
  """
  return _count(jax.make_jaxpr(function)(*args).jaxpr)


def forward(model: nn.Module, image_size: tuple[int, int]) -> int:
  """Operations of the forward pass of one image, in pixels (height, width)."""
  image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), image)
  return count(model.apply, params, image)


def forward_as_compiled(model: nn.Module, image_size: tuple[int, int]) -> float:
  """The same by XLA's count, of the program as it is before it is optimised.

  It has element-wise work, too. It is that for a CPU on all machines: the
  compilers of other devices do not tell.

  Raises:
    ValueError: if the model is a scan over its blocks.
  """
  if getattr(model, 'scan', False):
    raise ValueError(
      'XLA counts the body of a scan once; give it the model with scan=False.'
    )
  image = jax.ShapeDtypeStruct((1, *image_size, 3), jnp.float32)
  params = jax.eval_shape(model.init, jax.random.key(0), image)
  with jax.default_device(jax.local_devices(backend='cpu')[0]):
    lowered = jax.jit(model.apply).lower(params, image)
  return lowered.cost_analysis()['flops']


def training_exaflops(forward: float, num_images: float) -> float:
  """Compute of a training run in exaFLOPs (Table 6, Figure 5).

  Three times the forward pass: the backward pass computes the gradients of
  the inputs and of the weights. This reproduces the ViT rows of Table 6 within
  2.5 %, with 303 million images an epoch and no head.

  Args:
    forward: operations of the forward pass of an image, by either count; of a
      model with `num_classes=0`, as the paper seems to have counted.
    num_images: seen in the run, repetitions included.
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
      'matrix products in a while loop, whose length no trace tells, cannot be'
      ' counted; write it as a scan.'
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
