"""Writes features of all images of a dataset, and scores nearest neighbours.

The processes of a run share the batches. Each batch is computed by the devices
of one process, so that the features do not depend on the number of processes
if all have as many devices.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import logging
import time
from typing import Any
import zlib

from etils import epath
import jax
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.checkpoints import backlog, finite
from vit_jax.data import pipeline
from vit_jax.data import source as source_lib
from vit_jax.data.preparation import parquet
from vit_jax.distributed import compilation, processes
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import (
  classification,
  nearest_neighbours,
  representations,
)
from vit_jax.workdir import claim, console, feature_files, files, results
from vit_jax.workdir import predictions as predictions_lib

_log = logging.getLogger(__name__)

TRAIN = 'train'
_SECONDS_BETWEEN_LOGS = 10
_MAX_PAIRS = 24  # Per split, in results.json.


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Computes the features of the splits of `data.eval`, and of `data.train`.

  Writes `features_SPLIT.npz`, and `results.json` with the accuracy of nearest
  neighbours and the most similar pairs of images.

  Raises:
    ValueError: if checkpoint, data and config do not match.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    feature_files.remove_parts(workdir)  # If it was killed before it did.
    return
  begin = time.perf_counter()
  if config.features.parquet:
    parquet.require_pyarrow()
  with console.phase('reading the checkpoint'):
    model = pretrained.load_backbone(config)
  c = model.config.features
  step = representations.make_step(
    model.model,
    model.grid,
    layer=c.layer,
    blocks=c.blocks,
    normalise=c.normalise,
  )
  _check_blocks(step, model)
  with console.phase('opening the data'):
    data = _open(model.config)
  writer = _Writer(model, step, data, workdir)
  claim.start(config_lib.flatten(config), workdir)
  claim.check_shared(workdir)
  parts = {split: writer.write(split) for split in data.evals}
  backlog.flush()
  processes.wait_for_all('the features are computed')
  found = processes.from_first(
    lambda: _finish(model.config, workdir, data.evals, parts)
  )
  if metrics := found['metrics']:
    rows = [(name, f'{value:.4f}') for name, value in metrics.items()]
    console.show(console.table([('nearest neighbours', 'accuracy'), *rows]))
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    params=model.params,
    init_from=config.init_from,
    **found,
  )
  feature_files.remove_parts(workdir)


def _check_blocks(
  step: classification.EvalStep, model: pretrained.PretrainedModel
) -> None:
  """Traces the step, which raises ValueError if a block does not exist."""
  shape = 1, *config_lib.image_size(model.config), model.model.channels
  image = jax.ShapeDtypeStruct(shape, np.float32)
  jax.eval_shape(step, model.params, {'image': image})


def _open(config: ml_collections.ConfigDict) -> build.EvalData:
  """Opens the splits of `data.eval` and, if asked for, `data.train`.

  Raises:
    ValueError: if there are none, two have the same name, or data is missing.
  """
  c = config.data
  listed = {}
  data = build.open_eval_data(config, listed)
  sources = data.evals
  if config.features.train:
    if config_lib.eval_splits(config).get(TRAIN, c.train) != c.train:
      raise ValueError(
        f'data.eval={c.eval!r} has a split called {TRAIN}, the name of'
        f' data.train={c.train!r}; set features.train=false, or give it another'
        ' name, as in some_train=train[:9].'
      )
    sources = sources | {TRAIN: build.open_train(config, listed=listed)}
  if not sources:
    raise ValueError(
      'data.eval is empty; name a split, or set features.train=true.'
    )
  if len({source.class_names for source in sources.values()}) > 1:
    raise ValueError(
      f'{c.name}: {", ".join(sources)} have different classes; choose splits of'
      ' the same classes.'
    )
  return dataclasses.replace(data, evals=sources)


class _Writer:
  """Computes and writes the features of splits, with all processes."""

  def __init__(
    self,
    model: pretrained.PretrainedModel,
    step: classification.EvalStep,
    data: build.EvalData,
    workdir: epath.Path,
  ):
    mesh = mesh_lib.create(**model.config.mesh, devices=jax.local_devices())
    self._mesh = mesh
    self._step = compilation.jit(step, mesh.local_devices[0])
    self._params = mesh_lib.put(model.params, mesh_lib.replicated(mesh))
    self._weights = _checksum(model.params)
    self._data = data
    self._workdir = workdir

  def write(self, split: str) -> feature_files.Parts:
    """Computes this process's share of the batches that have no file yet."""
    source = self._data.evals[split]
    key = processes.from_first(
      lambda: source_lib.digest(
        files.json_text([self._weights, source.fingerprint()]).encode()
      )
    )
    n = source.num_examples
    size = mesh_lib.round_up(min(self._data.eval_batch_size, n), self._mesh)
    parts = feature_files.Parts.create(self._workdir, split, key, n, size)
    missing = processes.from_first(parts.missing)
    if len(missing) < parts.count:
      _log.info(
        'resuming %s: %d of %d batches are left',
        split, len(missing), parts.count,
      )  # fmt: skip
    begin, end = source_lib.part_bounds(
      len(missing), jax.process_index(), jax.process_count()
    )
    if own := missing[begin:end]:
      with console.phase(f'computing features of {split}, {n} images'):
        self._compute(source, parts, own)
    return parts

  def _compute(self, source, parts, own) -> None:
    batches = pipeline.eval_batches(
      source,
      self._data.eval_transform,
      batch_size=parts.batch_size,
      only=parts.examples(own),
      skip_corrupt=self._data.skip_corrupt,
    )
    outputs = classification.batch_outputs(
      self._step,
      self._params,
      batches,
      functools.partial(mesh_lib.put_batch, mesh=self._mesh),
      fetch=jax.device_get,
    )
    begin = last_log = time.perf_counter()
    for done, (number, rows) in enumerate(zip(own, outputs, strict=True), 1):
      finite.check(rows, 'outputs of the model', classification.ADVICE)
      parts.write(number, rows)
      now = time.perf_counter()
      if now - last_log > _SECONDS_BETWEEN_LOGS:
        last_log = now
        per_batch = (now - begin) / done
        _log.info(
          'computed %d/%d batches  %.1f images/s  left %s',
          done, len(own), parts.batch_size / per_batch,
          console.duration((len(own) - done) * per_batch),
        )  # fmt: skip


def _checksum(params: PyTree) -> int:
  crc = 0
  for leaf in jax.tree.leaves(params):
    crc = zlib.crc32(np.asarray(leaf).tobytes(), crc)
  return crc


def _finish(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  sources: Mapping[str, source_lib.Source],
  parts: Mapping[str, feature_files.Parts],
) -> dict[str, Any]:
  """Writes the final files; returns fields of `results.json`."""
  found = {'metrics': {}, 'num_examples': {}, 'pairs': {}}
  for split, source in sources.items():
    with console.phase(f'writing the features of {split}'):
      found['num_examples'][split] = feature_files.join(
        parts[split], workdir, split, source.class_names, source.describe
      )
      if config.features.parquet:
        feature_files.write_parquet(workdir, split)
  for split in [name for name in sources if name != TRAIN] or sources:
    reference = TRAIN if config.features.train else split
    with console.phase(f'searching {reference} for neighbours of {split}'):
      score = _Neighbours(workdir, split, reference, config.features.neighbours)
    found['pairs'][split] = list(score.pairs())[:_MAX_PAIRS]
    if not sources[split].multi_label:
      name = f'{split}/nearest_neighbour_accuracy'
      found['metrics'][name] = score.accuracy()
  return found


class _Neighbours:
  """The neighbours of the images of a split in another one, or in itself."""

  def __init__(
    self, workdir: epath.Path, split: str, reference: str, count: int
  ):
    self._queries = feature_files.read(workdir, split)
    self._references = feature_files.read(workdir, reference)
    positions = {name: i for i, name in enumerate(self._references['example'])}
    self._found = nearest_neighbours.find(
      feature_files.read_features(
        workdir, split, nearest_neighbours.QUERIES_PER_CHUNK
      ),
      functools.partial(
        feature_files.read_features,
        workdir,
        reference,
        nearest_neighbours.REFERENCES_PER_CHUNK,
      ),
      count=count,
      own=np.array(
        [positions.get(name, -1) for name in self._queries['example']]
      ),
    )
    self._reference = reference

  def accuracy(self) -> float:
    """Returns the accuracy of the vote of the neighbours."""
    correct = nearest_neighbours.correct(
      self._found, self._references['label'], self._queries['label']
    )
    return float(np.mean(correct))

  def pairs(self) -> Iterator[dict[str, Any]]:
    """Yields each image with its neighbour, the most similar pair first."""
    rows, similarity = self._found.rows[:, 0], self._found.similarity[:, 0]
    seen = set()
    for i in np.argsort(-similarity, kind='stable'):
      one = _example(self._queries, i)
      if rows[i] < 0:
        return
      other = _example(self._references, rows[i])
      if (other['example'], one['example']) in seen:
        continue
      seen.add((one['example'], other['example']))
      yield {
        **one,
        'similarity': round(float(similarity[i]), 4),
        'neighbour': {'split': self._reference, **other},
      }


def _example(arrays: feature_files.Rows, row: int) -> dict[str, Any]:
  """Returns the record of an example in `results.json`."""
  return {
    'example': str(arrays['example'][row]),
    'index': int(arrays['index'][row]),
    'label': predictions_lib.named_labels(
      arrays['label'][row], arrays['class_names'].tolist()
    ),
  }
