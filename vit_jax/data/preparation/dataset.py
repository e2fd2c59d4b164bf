"""Writes original data as a dataset that TFDS reads.

While it is being written, its folder is called `1.0.0.incomplete`, and has the
index of the original beside the shards. The same call resumes after an
interruption. The files depend on the original and the settings only, not on the
number of processes or on interruptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import contextlib
import itertools
import json
import re
import tempfile
from typing import Any

from etils import epath

from vit_jax import printing
from vit_jax.checkpoints import atomic, location, run_folder
from vit_jax.data.lazy_tensorflow import tfds
from vit_jax.data.preparation import index, merge, shards, workers
from vit_jax.data.preparation.original import Original

VERSION = '1.0.0'
RECORD = 'preparation.json'
UNREADABLE = 'unreadable.txt'
# Called with what is done and how much, repeatedly until all of it is done.
Progress = Callable[[str, int, int], None]

_INDEX = 'index'
_JOINED = 'joined.jsonl'
_PIXELS = 'max_pixels'


def check_name(name: str) -> None:
  """Checks the name of a dataset to prepare.

  Raises:
    ValueError: if TFDS cannot use it, or has another dataset of that name.
  """
  if not re.fullmatch('[a-z][a-z0-9_]*', name):
    raise ValueError(
      f'prepare.name={name!r} is not the name of a dataset; use lower-case'
      ' letters, digits and underscores, as in'
      ' --config.prepare.name=my_photos.'
    )
  if name in tfds.list_builders(with_community_datasets=False):
    raise ValueError(
      f'prepare.name={name!r} is a dataset of TFDS; choose another name.'
    )


def data_folder(data_dir: str) -> epath.Path:
  """Returns the folder of all prepared data; that of TFDS if empty."""
  return location.expand(data_dir or tfds.core.constants.DATA_DIR)


def finished(
  folder: epath.Path, settings: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Returns the results of an earlier preparation; None if it is not finished.

  Args:
    folder: folder of the dataset, without its version.
    settings: see `prepare`.

  Raises:
    ValueError: if the folder holds another dataset.
  """
  final = folder / VERSION
  if not (final / 'dataset_info.json').exists():
    return None
  record = run_folder.read_json(final / RECORD)
  if record is None:
    raise ValueError(
      f'{final} holds a dataset that was not prepared by this command; choose'
      ' another prepare.name or data.dir.'
    )
  _check_same(final, record['settings'], settings)
  return record['results']


def prepare(
  original: Original,
  folder: epath.Path,
  *,
  settings: Mapping[str, Any],
  class_names: Sequence[str] | None,
  num_workers: int,
  progress: Progress,
) -> dict[str, Any]:
  """Prepares a dataset, or resumes.

  Args:
    original: the original data.
    folder: folder of the dataset, such as DATA_DIR/imagenet21k. The data goes
      to its subfolder `1.0.0`.
    settings: `seed`, `duplicates` (a key of `merge.DUPLICATES`), `shard_mib`,
      `max_pixels` and what else must be the same when it resumes.
    class_names: names of all classes; see `merge.name_classes`.
    num_workers: number of processes.
    progress: called with what is done so far.

  Returns:
    Numbers of images: `splits`, `classes`, `unreadable`, `converted`,
    `duplicates` and `ambiguous`; see `merge.Merged`.

  Raises:
    ValueError: if the original has no readable image or is damaged, or the
      original or the settings changed since the first shard was written.
    OSError: if a file cannot be written.
  """
  incomplete = folder / f'{VERSION}.incomplete'
  parts = [
    index.index_path(incomplete / _INDEX, unit) for unit in original.units()
  ]
  names = ''.join(path.name for path in parts)
  record = {
    'settings': dict(settings),
    'original': index.hash_bytes(names.encode()),
  }
  earlier = run_folder.read_json(incomplete / RECORD)
  if earlier is not None:
    if any('.tfrecord-' in path.name for path in incomplete.iterdir()):
      _check_same(incomplete, earlier['settings'], settings)
      if earlier['original'] != record['original']:
        raise ValueError(
          f'the original data is not the same as when {incomplete} was started;'
          ' restore it, or remove this folder to start again.'
        )
    else:
      # Other settings and units have had no effect yet, and images that could
      # not be read may have been repaired.
      pixels = {_PIXELS: settings[_PIXELS]}
      _check_same(incomplete, earlier['settings'], pixels)
      index.forget_unreadable(incomplete / _INDEX)
  if earlier is None or not record.items() <= earlier.items():
    _write_json(incomplete / RECORD, record)
  else:
    record = earlier
  if 'results' not in record:
    with contextlib.ExitStack() as at_the_end:
      run = at_the_end.enter_context(workers.start(num_workers))
      _index_units(original, parts, incomplete, settings, run, progress)
      joined = incomplete / _INDEX / _JOINED
      if '://' in str(folder):  # It is read at random positions.
        temporary = at_the_end.enter_context(tempfile.TemporaryDirectory())
        joined = epath.Path(temporary) / _JOINED
      merged = merge.merge(
        parts,
        joined,
        original,
        seed=settings['seed'],
        duplicates=settings['duplicates'],
        class_names=class_names,
      )
      _list_unreadable(merged, incomplete)
      planned = shards.plan(
        merged, incomplete, folder.name, settings['shard_mib'] * 2**20
      )
      _write_shards(merged, planned, incomplete, settings, run, progress)
    _write_metadata(merged, planned, incomplete, folder.name)
    record['results'] = _results(merged)
    _write_json(incomplete / RECORD, record)
  if (incomplete / _INDEX).exists():
    (incomplete / _INDEX).rmtree()
  _publish(incomplete, folder / VERSION)
  return record['results']


def _check_same(
  folder: epath.Path, earlier: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
  """Checks that the settings are those of an earlier start."""
  changed = [
    f'{key} {earlier.get(key)!r} -> {value!r}'
    for key, value in now.items()
    if earlier.get(key) != value
  ]
  if changed:
    raise ValueError(
      f'{folder} was prepared with other settings ({"; ".join(changed)});'
      ' restore them, choose another prepare.name, or remove this folder.'
    )


def _index_units(original, parts, incomplete, settings, run, progress):
  """Runs the first pass for all units that have no index yet."""
  folder = incomplete / _INDEX
  folder.mkdir(parents=True, exist_ok=True)
  existing = {path.name for path in folder.iterdir()}
  tasks = (
    (unit, folder, settings[_PIXELS])
    for unit, path in zip(original.units(), parts, strict=True)
    if path.name not in existing
  )
  done = sum(path.name in existing for path in parts)
  progress('indexed parts', done, len(parts))
  for _ in run(index.index_unit, tasks):
    done += 1
    progress('indexed parts', done, len(parts))


def _write_shards(merged, planned, incomplete, settings, run, progress):
  """Runs the second pass for all shards that do not exist yet."""
  existing = {path.name for path in incomplete.iterdir()}
  missing = [shard for shard in planned if shard.path.name not in existing]
  tasks = (
    (
      shard,
      {row: merged.label_sets[row] for row in set(shard.labels.tolist())},
      merged.index,
      settings[_PIXELS],
    )
    for shard in missing
  )
  total = sum(len(shard.lines) for shard in planned)
  done = total - sum(len(shard.lines) for shard in missing)
  progress('written images', done, total)
  for count in run(shards.write_shard, tasks):
    done += count
    progress('written images', done, total)


def _write_metadata(merged, planned, incomplete, name):
  """Writes features.json, dataset_info.json and the names of the classes."""
  label = tfds.features.ClassLabel(names=merged.class_names)
  features = {
    'image': tfds.features.Image(),
    'label': tfds.features.Sequence(label) if merged.multi_label else label,
    'file_name': tfds.features.Text(),
  }
  infos = []
  for split, group in itertools.groupby(planned, lambda shard: shard.split):
    files = list(group)
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(shard.lines) for shard in files],
        num_bytes=sum(shard.path.stat().length for shard in files),
        filename_template=tfds.core.ShardedFileTemplate(
          data_dir=incomplete,
          dataset_name=name,
          split=split,
          filetype_suffix='tfrecord',
        ),
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=incomplete,
    features=tfds.features.FeaturesDict(features),
    split_infos=infos,
    version=VERSION,
    check_data=False,
  )


def _list_unreadable(merged: merge.Merged, incomplete: epath.Path) -> None:
  """Writes one line per unreadable image: its name, a tab and the reason."""
  lines = [
    printing.printable(f'{e.name}\t{e.error}', keep='\t') + '\n'
    for e in merged.unreadable
  ]
  if lines:
    atomic.replace(incomplete / UNREADABLE, ''.join(lines).encode())


def _results(merged: merge.Merged) -> dict[str, Any]:
  return {
    'splits': {name: len(s.lines) for name, s in merged.splits.items()},
    'classes': len(merged.class_names),
    'unreadable': len(merged.unreadable),
    'converted': sum(s.num_converted for s in merged.splits.values()),
    'duplicates': merged.duplicates,
    'ambiguous': merged.ambiguous,
  }


def _write_json(path: epath.Path, content: Any) -> None:
  atomic.replace(path, (json.dumps(content, indent=2) + '\n').encode())


def _publish(incomplete: epath.Path, final: epath.Path) -> None:
  """Renames the folder."""
  if '://' not in str(final):
    incomplete.rename(final)
    return
  # Elsewhere, files are renamed one by one, which may have been interrupted.
  # The last one marks the dataset as finished.
  final.mkdir(parents=True, exist_ok=True)
  last = 'dataset_info.json'
  for path in sorted(incomplete.iterdir(), key=lambda path: path.name == last):
    path.replace(final / path.name)
  incomplete.rmtree()
