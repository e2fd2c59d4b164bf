"""Opens datasets by name: digits, image folders, tables, TFDS and VTAB."""

from collections.abc import Callable, Mapping
import dataclasses
from typing import Any

from vit_jax.data import (
  catalog,
  digits,
  exclusions,
  folder,
  table_source,
  tfds_source,
  vtab_tasks,
)
from vit_jax.data.file_source import Files
from vit_jax.data.source import InMemorySource, Source


def _open_digits(path, split, *, name, subset, seed, exclude, **_):
  if path:
    raise ValueError(
      f"'digits' takes no argument, got {name!r}; write data.name=digits."
    )
  return digits.open_digits(split, subset=subset, seed=seed, exclude=exclude)


def _open_folder(
  path, split, *, name, subset, seed, exclude, index, listed, **_
):
  if not path:
    raise ValueError(f'{name!r} has no path; write folder:PATH.')
  if name not in listed:
    listed[name] = folder.list_files(path, index)
  return folder.open_folder(
    path,
    split,
    files=listed[name],
    subset=subset,
    seed=seed,
    exclude=exclude,
  )


def _open_table(argument, split, *, name, subset, seed, exclude, listed, **_):
  if name not in listed:
    listed[name] = table_source.read_files(argument)
  return table_source.open_table(
    argument,
    split,
    files=listed[name],
    subset=subset,
    seed=seed,
    exclude=exclude,
  )


def _open_vtab(path, split, *, name, **options):
  task = vtab_tasks.find(path)
  if split not in task.splits:
    raise ValueError(
      f'{name} has no split {split!r}; splits: {", ".join(task.splits)}.'
    )
  source = tfds_source.open_tfds(
    task.dataset.builder,
    task.splits[split],
    name=name,
    num_examples=task.dataset.num_examples,
    **_format_options(task.dataset),
    **options,
  )
  source = dataclasses.replace(source, split=split)
  # Other splits have at most 1,000 examples, somewhere in long files.
  return source if split == 'test' else InMemorySource.read(source)


def _format_options(dataset: catalog.Dataset) -> dict[str, Any]:
  """Returns the arguments of `open_tfds` that describe the dataset's format."""
  return {'label': dataset.label, 'pixel_factor': dataset.pixel_factor}


OPENERS: Mapping[str, Callable[..., Source]] = {
  'digits': _open_digits,
  'folder': _open_folder,
  'table': _open_table,
  'tfds': tfds_source.open_tfds,
  'vtab': _open_vtab,
}


def tfds_builders(name: str) -> list[str]:
  """Returns the TFDS builders of a dataset; of `vtab`, those of all tasks.

  Raises:
    ValueError: if the dataset is not a TFDS dataset.
  """
  kind, _, path = name.partition(':')
  if name == 'vtab':
    builders = [task.dataset.builder for task in vtab_tasks.TASKS.values()]
    return list(dict.fromkeys(builders))
  if kind == 'vtab':
    return [vtab_tasks.find(path).dataset.builder]
  if name in catalog.DATASETS:
    return [catalog.DATASETS[name].builder]
  if kind == 'tfds':
    return [path]
  raise ValueError(
    f'{name!r} is not a dataset that TFDS can prepare; use tfds:NAME, vtab,'
    f' vtab:TASK, or one of {", ".join(catalog.DATASETS)}.'
  )


def open_source(
  name: str,
  split: str,
  *,
  data_dir: str = '',
  manual_dir: str = '',
  download: bool = False,
  subset: int = 0,
  seed: int = 0,
  exclude: str = '',
  index: str = '',
  listed: dict[str, Files] | None = None,
) -> Source:
  """Opens a split of a dataset.

  Args:
    name: `digits`, `folder:PATH`, `table:FILE` with the options of `table`,
      `tfds:NAME[/CONFIG][:VERSION]`, `vtab:TASK`, or a key of
      `catalog.DATASETS`.
    split: a split such as `train`, a part such as `train[:98%]` or
      `train[100:200]`, or a sum of these; for VTAB, one of `train800`,
      `val200`, `train800val200` and `test`.
    data_dir: folder of prepared TFDS data; empty: TFDS's default.
    manual_dir: folder of files that TFDS cannot download; empty: TFDS's
      default.
    download: whether to download and prepare missing TFDS data.
    subset: number of examples to draw at random; 0: all.
    seed: seed of the subset.
    exclude: path of a list of examples to exclude, before a subset is drawn;
      empty: none.
    index: file that keeps the list of a folder; see `folder.list_files`. Empty:
      none.
    listed: files of the folders and tables that have been listed, by name of
      the dataset. Calls for several splits should share it, so that each is
      listed once; others are added. None: none.

  Raises:
    NotPreparedError: if TFDS has not prepared the data.
    ValueError: if the name or split is unknown, data is missing, or the data or
      the list has an unexpected format; the message says what to do.
  """
  options = {
    'name': name,
    'data_dir': data_dir,
    'manual_dir': manual_dir,
    'download': download,
    'subset': subset,
    'seed': seed,
    'exclude': exclusions.read(exclude, name, split) if exclude else None,
  }
  kind, _, path = name.partition(':')
  if name in catalog.DATASETS:
    dataset = catalog.DATASETS[name]
    kind, path = 'tfds', dataset.builder
    options |= _format_options(dataset)
  if index and kind != 'folder':
    raise ValueError(
      f'data.index={index!r} is for folder:PATH, not for {name!r}; leave it'
      ' empty.'
    )
  if kind in ('folder', 'table'):
    options |= {'index': index, 'listed': {} if listed is None else listed}
  if kind not in OPENERS:
    raise ValueError(
      f'unknown dataset {name!r}; use digits, folder:PATH, table:FILE,'
      f' tfds:NAME, vtab:TASK, or one of {", ".join(catalog.DATASETS)}.'
    )
  return OPENERS[kind](path, split, **options)
