"""Exports a trained model for other runtimes, and checks what was written."""

from collections.abc import Sequence
import dataclasses
import logging
import time
from typing import Any

from etils import epath
import jax
from jaxtyping import Float
import ml_collections
import numpy as np

from vit_jax import build, checkpoints
from vit_jax import config as config_lib
from vit_jax.build import loaded_model, pretrained
from vit_jax.checkpoints import backlog
from vit_jax.data import photos
from vit_jax.runtimes import RUNTIMES, Network, Runner, Runtime
from vit_jax.workdir import claim, console, files, results

_log = logging.getLogger(__name__)

_NUM_IMAGES = 16
_BATCH_SIZES = (7, 1, 7, 1)  # Of the images that are compared.
# Other runtimes round differently: accepted multiple of our own rounding.
_ROUNDING = 10
_COARSE = 4  # Sides of the noise that smooth images are made of.
_RECORDED = ('positions', 'pool', 'class_token')


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Writes the model of `init_from` in the format `export.format`.

  What was written is loaded again by the runtime that it is for, and compared
  with this package on images. It only stays if the outputs agree. Beside it are
  `model.json`, with class names and preprocessing, and `results.json`.

  Raises:
    ValueError: if the checkpoint or a library is missing, the format cannot
      hold the model, or the outputs differ.
  """
  runtime = RUNTIMES[config.export.format]
  _check_keys(config, runtime)
  begin = time.perf_counter()
  source = pretrained.load_backbone(config)
  loaded = loaded_model.LoadedModel(source, batch_sizes=[config.batch_size])
  network = _network(source, _names(loaded, source))
  images = _images(config, loaded)
  recorded = source.config.copy_and_resolve_references()
  build.record_derived(recorded, source.model)
  for name in _RECORDED:
    if hasattr(source.model, name):
      recorded.model[name] = getattr(source.model, name)

  path = workdir / runtime.file
  unchecked = workdir / f'unchecked-{runtime.file}'
  _remove(unchecked)
  try:
    with console.phase(f'writing {path}'):
      runtime.write(network, unchecked)
      backlog.flush()
    claim.restart(config_lib.flatten(recorded), workdir)
    # Class names of an earlier export could be those of another model.
    (workdir / files.RESULTS).unlink(missing_ok=True)
    checked = _check(config, network, runtime, unchecked, images)
    _remove(path)
    unchecked.rename(path)
  except ImportError as error:
    _remove(unchecked)
    raise ValueError(str(error)) from error
  except BaseException:
    _remove(unchecked)
    raise
  files.write_json(workdir / 'model.json', _description(source, network, path))
  size = sum(file.stat().length for file in _files_in(path))
  rows = [
    ('format', 'size [MB]', 'load [s]', 'first call [s]', 'difference'),
    (
      config.export.format,
      f'{size / 1e6:.1f}',
      f'{checked.load_seconds:.1f}',
      f'{checked.first_call_seconds:.1f}',
      f'{checked.difference:.1e}',
    ),
  ]
  console.show(console.table(rows))
  _log.info('%s agrees, as computed by %s', path, checked.runtime)
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    metrics={
      'export/bytes': size,
      'export/load_seconds': checked.load_seconds,
      'export/first_call_seconds': checked.first_call_seconds,
      'export/largest_difference': checked.difference,
      'export/rounding': checked.rounding,
      'export/largest_output': checked.largest_output,
    },
    params=source.params,
    init_from=config.init_from,
    file=runtime.file,
    runtime=checked.runtime,
    num_images=len(images),
    class_names=network.settings['class_names'],
    multi_label=source.multi_label,
  )


def _check_keys(config: ml_collections.ConfigDict, runtime: Runtime) -> None:
  """Raises a ValueError if keys do not apply to the format."""
  if config.model.dtype != 'float32':
    raise ValueError(
      f'model.dtype={config.model.dtype}, but programs are exported and'
      ' compared in float32; leave model.dtype at float32.'
    )
  if not runtime.is_program:
    for name, default in (('input', 'floats'), ('batch_size', 0)):
      if config.export[name] != default:
        raise ValueError(
          f'export.{name}={config.export[name]} has no effect on the weights'
          f' that export.format={config.export.format} consists of; it is for'
          ' the formats'
          f' {", ".join(k for k, v in RUNTIMES.items() if v.is_program)}.'
        )


def _names(
  loaded: loaded_model.LoadedModel, source: pretrained.PretrainedModel
) -> tuple[str, ...] | None:
  """Returns the class names, None if they are only numbers."""
  is_named = source.recorded_names or source.config.predict.class_names
  return loaded.class_names if is_named and source.num_classes else None


def _network(
  source: pretrained.PretrainedModel, names: Sequence[str] | None
) -> Network:
  """Returns the network to export."""
  data, model = source.config.data, source.model
  size = config_lib.image_size(source.config)
  precrop = data.precrop_size
  settings = {
    name: getattr(model, name)
    for name in ('gelu', 'norm_eps', 'positions', 'pool')
    if hasattr(model, name)
  }
  settings |= {
    'image_size': size,
    'class_names': names,
    'evaluation': checkpoints.Evaluation(
      data.eval_crop,
      data.eval_interpolation,
      image_size=size,
      precrop_size=(precrop, precrop) if precrop else None,
      trim_px=data.trim_px,
      bits=data.bits,
    ),
  }
  pixels = source.config.export.input == 'pixels'
  return Network(
    model,
    source.params,
    size,
    dtype=f'uint{data.bits}' if pixels else 'float32',
    batch_size=source.config.export.batch_size,
    settings=settings,
  )


def _images(
  config: ml_collections.ConfigDict, loaded: loaded_model.LoadedModel
) -> Float[np.ndarray, 'n h w c']:
  """Returns photos or smooth noise in [-1, 1], to compare outputs on."""
  if config.export.images:
    return loaded.preprocess(photos.find(config.export.images)[:_NUM_IMAGES])
  rng = np.random.default_rng(0)
  channels = loaded.model.channels
  shape = _NUM_IMAGES, _COARSE, _COARSE, channels
  noise = rng.uniform(-1, 1, shape).astype(np.float32)
  shape = _NUM_IMAGES, *loaded.image_size, channels
  return np.clip(jax.image.resize(noise, shape, 'cubic'), -1, 1)


@dataclasses.dataclass(frozen=True)
class _Checked:
  """The outcome of a comparison.

  Attributes:
    runtime: what loaded the file: name and version.
    load_seconds: time to load the file.
    first_call_seconds: time of the first call, which may compile.
    difference: largest difference between outputs.
    rounding: largest difference between outputs of this package for batches of
      these sizes and for one batch.
    largest_output: largest absolute value of an output.
  """

  runtime: str
  load_seconds: float
  first_call_seconds: float
  difference: float
  rounding: float
  largest_output: float


def _check(
  config: ml_collections.ConfigDict,
  network: Network,
  runtime: Runtime,
  path: epath.Path,
  images: Float[np.ndarray, 'n h w c'],
) -> _Checked:
  """Compares the outputs of a file with those of this package, on the CPU.

  Accelerators multiply float32 matrices in lower precision by default.

  Raises:
    ValueError: if they differ.
  """
  given = images
  if network.dtype != 'float32':
    half = np.iinfo(network.dtype).max / 2
    given = np.round(images * half + half).astype(network.dtype)
    images = ((given - half) / half).astype(np.float32)
  with jax.default_device(jax.local_devices(backend='cpu')[0]):
    ours = _ours(network)
    expected = _in_batches(ours, images, network.batch_size)
    # Rounding depends on the size of a batch, above all in deep ResNets.
    rounding = float(np.max(np.abs(ours(images) - expected)))
    begin = time.perf_counter()
    runner, name = _load(config, network, runtime, path)
    loaded = time.perf_counter()
    first = runner(given[: network.batch_size or 1].copy())
    called = time.perf_counter()
    del first
    found = _in_batches(runner, given, network.batch_size)
  difference = float(np.max(np.abs(found - expected)))
  largest = float(np.max(np.abs(expected)))
  limit = max(runtime.limit * max(1, largest), _ROUNDING * rounding)
  if not difference <= limit:  # It may be NaN.
    raise ValueError(
      f'the exported file does not agree with the model: as computed by {name},'
      f' outputs of {len(images)} images differ by up to {difference:.3g}; the'
      f' limit is {limit:.3g}, for outputs of up to {largest:.3g}. The file is'
      ' removed.'
    )
  return _Checked(
    runtime=name,
    load_seconds=loaded - begin,
    first_call_seconds=called - loaded,
    difference=difference,
    rounding=rounding,
    largest_output=largest,
  )


def _load(
  config: ml_collections.ConfigDict,
  network: Network,
  runtime: Runtime,
  path: epath.Path,
) -> tuple[Runner, str]:
  """Loads a file in its own runtime, or else by this package."""
  if runtime.load:
    try:
      return runtime.load(network, path)
    except ImportError as error:
      if runtime.is_program:
        raise
      _log.warning('loaded by vit_jax instead, since %s', error)
  config = config.copy_and_resolve_references()
  height, width = network.image_size
  config.init_from = str(path)
  config.data.update(image_size=height, image_width=width)
  again = pretrained.load_backbone(config)
  return _ours(
    Network(again.model, again.params, network.image_size)
  ), 'vit_jax'


def _ours(network: Network) -> Runner:
  """Returns the model as this package computes it."""
  model = network.model

  @jax.jit
  def outputs(params, images):
    logits, features = model.apply({'params': params}, images, tokens=False)
    return features['pooled'] if logits is None else logits

  return lambda images: np.asarray(outputs(network.params, images))


def _in_batches(
  runner: Runner, images: np.ndarray, batch_size: int
) -> np.ndarray:
  """Returns outputs from several sizes of batches, or from the given one."""
  sizes = _BATCH_SIZES
  if batch_size:
    sizes = [batch_size] * -(-len(images) // batch_size)
  outputs, start = [], 0
  for size in sizes:
    batch = images[start : start + size]
    start += size
    if len(batch):
      missing = batch_size - len(batch) if batch_size else 0
      padded = np.pad(batch, [(0, missing), *[(0, 0)] * 3])
      outputs.append(runner(padded)[: len(batch)])
  return np.concatenate(outputs)


def _description(
  source: pretrained.PretrainedModel, network: Network, path: epath.Path
) -> dict[str, Any]:
  """Returns what a user of the file has to know, for `model.json`."""
  evaluation = dataclasses.asdict(network.settings['evaluation'])
  batch = network.batch_size or None
  outputs = network.model.num_classes or None
  is_floats = network.dtype == 'float32'
  top = 1 if is_floats else int(np.iinfo(network.dtype).max)
  return {
    'file': path.name,
    'init_from': source.config.init_from,
    'format': source.config.export.format,
    'input': {
      'dtype': network.dtype,
      'shape': [batch, *network.image_shape],
      'range': [-1 if is_floats else 0, top],
    },
    'output': {
      'name': network.output,
      'shape': [batch, outputs],
      'probabilities': source.config.loss if outputs else None,
    },
    'preprocessing': evaluation,
    'class_names': network.settings['class_names'],
  }


def _files_in(path: epath.Path) -> list[epath.Path]:
  if not path.is_dir():
    return [path]
  return [file for child in path.iterdir() for file in _files_in(child)]


def _remove(path: epath.Path) -> None:
  if path.is_dir():
    path.rmtree()
  else:
    path.unlink(missing_ok=True)
