"""Inference throughput and maximum batch size of models (D.5, Figure 12)."""

import dataclasses
import functools
import itertools
import re
import statistics
from typing import Any

from etils import epath
import jax
import ml_collections

from vit_jax import build, foreign_errors
from vit_jax import config as config_lib
from vit_jax.distributed import compilation
from vit_jax.evaluation import inference_table, throughput
from vit_jax.inspection import figures, study_charts
from vit_jax.workdir import claim, console, files, results

NUM_CLASSES = 1000  # Size of the head, as for ImageNet.


@dataclasses.dataclass(frozen=True)
class Case:
  """A model and its image size in pixels."""

  model: str
  image_size: int

  def file_name(self, device: jax.Device) -> str:
    """Returns the name of the file with the case's numbers on a device."""
    name = f'{self.model}_{self.image_size}_{device.device_kind}.json'
    return re.sub(r'[^\w.+-]', '-', name)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Times each model at each size; prints and writes a table, draws a figure.

  Finished cases are kept in `points/`, so that an interrupted job resumes after
  them.

  Raises:
    ValueError: if a model is unknown or an image size is invalid.
  """
  config = config.copy_and_resolve_references()
  cases = _cases(config)
  if claim.is_finished(config_lib.flatten(config), workdir):
    console.show((workdir / files.TABLE).read_text())
    return
  claim.start(config_lib.flatten(config), workdir)
  device = jax.local_devices()[0]
  rows = []
  for case, case_config in cases.items():
    measure = functools.partial(_measure, case_config, case, device)
    path = workdir / 'points' / case.file_name(device)
    rows.append(files.read_or_make_json(path, measure))
  _write(config, workdir, rows, device)


def _write(config, workdir, rows, device) -> None:
  panels = {
    title: inference_table.lines(rows, key)
    for title, key in inference_table.PANELS.items()
  }
  title = f'one {device.device_kind}, {config.model.dtype}'
  figures.save(
    study_charts.inference_speed(panels, title=title),
    workdir / files.INFERENCE_CHART,
  )
  table = console.table([inference_table.HEAD, *inference_table.rows(rows)])
  text = '\n'.join([table, '', *inference_table.notes(rows)]) + '\n'
  files.write_text(workdir / files.TABLE, text)
  results.write(
    workdir,
    config.job,
    device_kind=device.device_kind,
    device_count=1,
    points=rows,
  )
  console.show(text)


def _cases(
  config: ml_collections.ConfigDict,
) -> dict[Case, ml_collections.ConfigDict]:
  """Returns the cases to time, and the config of each."""
  models = config.inference.models or [config.model.name]
  sizes = config.inference.image_sizes or [config.data.image_size]
  if min(sizes) < 1:
    raise ValueError(
      f'inference.image_sizes={config.inference.image_sizes!r} must list'
      ' image sizes in pixels, each at least 1.'
    )
  cases = itertools.starmap(Case, itertools.product(models, sizes))
  return {case: _case_config(config, case) for case in cases}


def _case_config(config, case) -> ml_collections.ConfigDict:
  """Returns the config with the nearest multiple of the patch size."""
  config = config.copy_and_resolve_references()
  config.model.name = case.model
  config.data.image_size = 0
  model = build.create_model(config, NUM_CLASSES)
  height, width = (
    max(round(case.image_size / side), 1) * side
    for side in getattr(model, 'token_size', (1, 1))  # ResNets take any size.
  )
  config.data.update(image_size=height, image_width=width)
  return config


def _measure(config, case, device) -> dict[str, Any]:
  """Returns the measurements of one case, on one device."""
  model = build.create_model(config, NUM_CLASSES)
  image_size = config_lib.image_size(config)
  init = functools.partial(build.initial_params, model, image_size, config.seed)
  with (
    console.phase(f'timing {case.model} at {case.image_size} px'),
    jax.default_device(device),
  ):
    params = jax.jit(init)()
    shape = *image_size, model.channels
    trials = _Trials(model, params, shape, device, config.inference)
    largest = throughput.largest_batch(
      trials.fits, config.inference.largest_batch
    )
  best = max(
    trials.rates, key=lambda rate: rate['images_per_second'], default=None
  )
  return {
    'model': case.model,
    'wanted_size': case.image_size,
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
  """Trial forward passes of a model with various batch sizes.

  Attributes:
    memory: available bytes; None if the device does not report them.
    rates: images per second of the timed batches.
  """

  def __init__(self, model, params, image_shape, device, options):
    """Prepares the trials; `options` are the keys `inference.*`."""
    self._options = options
    self._params = params
    self._image_shape = image_shape
    self._on_cpu = device.platform == 'cpu'
    self._is_slow = False
    if self._on_cpu:
      self.memory = round(options.cpu_memory * 2**30)
    else:
      self.memory = (device.memory_stats() or {}).get('bytes_limit')
    self.rates = []
    self._forward = compilation.jit(
      lambda params, images: model.apply(
        {'params': params}, images, tokens=False
      )[0],
      device,
    )

  def fits(self, batch_size: int) -> bool:
    """Returns whether a batch fits in memory, and times it if so.

    A CPU times no more batches after one that took too long.
    """
    shape = (batch_size, *self._image_shape)
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
      if not foreign_errors.is_out_of_memory(error):
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
    first = seconds[: throughput.MIN_TIMINGS]
    self._is_slow = sum(first) > self._options.seconds
    self.rates.append(
      {
        'batch_size': shape[0],
        'images_per_second': shape[0] / statistics.median(seconds),
        'lowest': shape[0] / max(seconds),
        'highest': shape[0] / min(seconds),
        'timings': len(seconds),
      }
    )
