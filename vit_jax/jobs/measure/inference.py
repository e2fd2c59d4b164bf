"""Images a second and the largest batch of models (D.5, Figure 12)."""

import dataclasses
import functools
import itertools
import json
import re
import statistics
from typing import Any

from etils import epath
import jax
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.evaluation import inference_table, throughput
from vit_jax.inspection import figures, study_charts
from vit_jax.workdir import claim, console, files, results

NUM_CLASSES = 1000  # Of the head, as for ImageNet.


@dataclasses.dataclass(frozen=True)
class Point:
  """A model and the side of its images in px."""

  model: str
  image_size: int

  def file_name(self, device: jax.Device) -> str:
    """Where its numbers are kept; another kind of device has others."""
    name = f'{self.model}_{self.image_size}_{device.device_kind}.json'
    return re.sub(r'[^\w.+-]', '-', name)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Times each model at each size; prints and writes a table, draws a figure.

  Points are kept in `points/`, so that the same command goes on after an
  interruption.

  Raises:
    ValueError: for a model that is not known, or a size that is none.
  """
  config = config.copy_and_resolve_references()
  points = _points(config)
  if claim.is_finished(config_lib.flatten(config), workdir):
    console.show((workdir / files.TABLE).read_text())
    return
  claim.start(config_lib.flatten(config), workdir)
  (workdir / 'points').mkdir(exist_ok=True)
  device = jax.local_devices()[0]
  found = []
  for point, config_of_it in points.items():
    path = workdir / 'points' / point.file_name(device)
    if not path.exists():
      with console.phase(f'timing {point.model} at {point.image_size} px'):
        files.write_json(path, _measure(config_of_it, point, device))
    found.append(json.loads(path.read_text()))
  _write(config, workdir, found, device)


def _write(config, workdir, points, device) -> None:
  panels = {
    what: inference_table.lines(points, key)
    for what, key in inference_table.PANELS.items()
  }
  title = f'one {device.device_kind}, {config.model.dtype}'
  figures.save(
    study_charts.inference_speed(panels, title=title),
    workdir / files.INFERENCE_CHART,
  )
  table = console.table([inference_table.HEAD, *inference_table.rows(points)])
  text = '\n'.join([table, '', *inference_table.notes(points)]) + '\n'
  files.write_text(workdir / files.TABLE, text)
  results.write(
    workdir,
    config.job,
    device_kind=device.device_kind,
    device_count=1,
    points=points,
  )
  console.show(text)


def _points(
  config: ml_collections.ConfigDict,
) -> dict[Point, ml_collections.ConfigDict]:
  """What to time, and the config of each."""
  models = [name.strip() for name in config.inference.models.split(',')]
  models = list(filter(None, models)) or [config.model.name]
  sizes = config_lib.integers(config, 'inference.image_sizes')
  sizes = sizes or [config.data.image_size]
  if min(sizes) < 1:
    raise ValueError(
      f'inference.image_sizes={config.inference.image_sizes!r} are sides of'
      ' images in px, each at least 1.'
    )
  points = itertools.starmap(Point, itertools.product(models, sizes))
  return {point: _config_of(config, point) for point in points}


def _config_of(config, point) -> ml_collections.ConfigDict:
  """With the nearest size that the model's patches divide."""
  config = config.copy_and_resolve_references()
  config.model.name = point.model
  model = build.create_network(config, NUM_CLASSES)
  height, width = (
    max(round(point.image_size / side), 1) * side
    for side in getattr(model, 'token_size', (1, 1))  # ResNets have none.
  )
  config.data.update(image_size=height, image_width=width)
  return config


def _measure(config, point, device) -> dict[str, Any]:
  """The numbers of one point, on one device."""
  model = build.create_model(config, NUM_CLASSES)
  image_size = config_lib.image_size(config)
  with jax.default_device(device):
    init = jax.jit(lambda: build.initial_params(config, model, config.seed))
    trials = _Trials(config, model, init(), image_size, device)
    largest = throughput.largest_batch(
      trials.fits, config.inference.largest_batch
    )
  best = max(
    trials.rates, key=lambda rate: rate['images_per_second'], default=None
  )
  return {
    'model': point.model,
    'wanted_size': point.image_size,
    'image_size': image_size[0],
    'dtype': config.model.dtype,
    'device_kind': device.device_kind,
    'memory_bytes': trials.memory,
    'memory_is_given': device.platform == 'cpu',
    'best': best,
    'largest_batch': largest,
    'limited_by': (
      'inference.largest_batch'
      if largest == config.inference.largest_batch
      else 'memory'
    ),
    'rates': trials.rates,
  }


class _Trials:
  """Forward passes of a model with batches of several sizes.

  Attributes:
    memory: bytes there are, None if the device does not tell.
    rates: images a second, by batch, of those that were timed.
  """

  def __init__(self, config, model, params, image_size, device):
    self._options = config.inference
    self._params = params
    self._image_size = image_size
    self._on_cpu = device.platform == 'cpu'
    self._is_slow = False
    if self._on_cpu:
      self.memory = round(config.inference.cpu_memory * 2**30)
    else:
      self.memory = (device.memory_stats() or {}).get('bytes_limit')
    self.rates = []
    self._forward = jax.jit(
      lambda params, images: model.apply({'params': params}, images)[0]
    )

  def fits(self, batch_size: int) -> bool:
    """Whether a batch does; it is timed, too, if that is quick."""
    shape = (batch_size, *self._image_size, 3)
    images = jax.ShapeDtypeStruct(shape, 'float32')
    try:
      compiled = self._forward.lower(self._params, images).compile()
      if self._on_cpu:
        if throughput.needed_bytes(compiled) > self.memory:
          return False
        if self._is_slow:
          return True
      self._time(compiled, shape)
    except jax.errors.JaxRuntimeError as error:
      if 'RESOURCE_EXHAUSTED' not in str(error):
        raise
      return False
    return True

  def _time(self, compiled, shape) -> None:
    draw = functools.partial(jax.random.uniform, minval=-1, maxval=1)
    images = draw(jax.random.key(0), shape)
    seconds = throughput.timings(
      compiled,
      self._params,
      images,
      repetitions=self._options.repetitions,
      seconds=self._options.seconds,
    )
    fewest = seconds[: throughput.FEWEST_TIMINGS]
    self._is_slow = sum(fewest) > self._options.seconds
    self.rates.append(
      {
        'batch_size': shape[0],
        'images_per_second': shape[0] / statistics.median(seconds),
        'lowest': shape[0] / max(seconds),
        'highest': shape[0] / min(seconds),
        'timings': len(seconds),
      }
    )
