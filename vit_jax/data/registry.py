"""Opening examples by name: the embedded digits, image folders, TFDS."""

from collections.abc import Callable, Mapping
import dataclasses
import types
from typing import Any

from vit_jax.data import (
  catalog,
  digits,
  exclusions,
  folder,
  in_memory,
  tfds_source,
  vtab_tasks,
)
from vit_jax.data.source import Source


def _open_digits(path, split, *, name, subset, seed, exclude, **_):
  if path:
    raise ValueError(f"the embedded data is called 'digits', not {name!r}.")
  return digits.open_digits(split, subset=subset, seed=seed, exclude=exclude)


def _open_folder(path, split, *, name, subset, seed, exclude, **_):
  if not path:
    raise ValueError(f'{name!r} names no folder; write folder:PATH.')
  return folder.open_folder(
    path, split, subset=subset, seed=seed, exclude=exclude
  )


def _open_tfds(path, split, **options):
  return tfds_source.open_tfds(path, split, **options)


def _open_vtab(path, split, *, name, **options):
  task = vtab_tasks.find(path)
  if split not in task.splits:
    raise ValueError(
      f'{name} has no split {split!r}; splits: {", ".join(task.splits)}.'
    )
  source = _open_tfds(
    task.dataset.builder,
    task.splits[split],
    name=name,
    num_examples=task.dataset.num_examples,
    **_form(task.dataset),
    **options,
  )
  source = dataclasses.replace(source, split=split)
  # The rest are a thousand examples at most, and files may be long.
  return source if split == 'test' else in_memory.hold(source)


def _form(dataset: catalog.Dataset) -> dict[str, Any]:
  """How to read it, as arguments of `open_tfds`."""
  return {'label': dataset.label, 'pixel_factor': dataset.pixel_factor}


OPENERS: Mapping[str, Callable[..., Source]] = types.MappingProxyType(
  {
    'digits': _open_digits,
    'folder': _open_folder,
    'tfds': _open_tfds,
    'vtab': _open_vtab,
  }
)


def tfds_builders(name: str) -> list[str]:
  """The TFDS builders behind a dataset's name; behind `vtab`, those of all.

  Raises:
    ValueError: if the data does not come from TFDS.
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
    f'{name!r} is nothing that TFDS can prepare; give tfds:NAME, vtab,'
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
) -> Source:
  """Opens a split of a dataset.

  Args:
    name: `digits`; `folder:PATH`; `tfds:NAME[/CONFIG][:VERSION]`; `vtab:TASK`;
      or a name of `catalog.DATASETS`.
    split: a split's name, a part of it such as `train[:98%]`, `train[100:200]`,
      or a sum of such; of a task of VTAB, `train800`, `val200`,
      `train800val200` or `test`.
    data_dir: TFDS: where prepared data lies; empty for TFDS's own default.
    manual_dir: TFDS: where files lie that it cannot download.
    download: TFDS: whether to download and prepare what is not there.
    subset: if not zero, how many examples to draw at random.
    seed: seed of the subset.
    exclude: if not empty, the path of a list of examples to leave out; a subset
      is drawn from the others.

  Raises:
    NotPreparedError: if TFDS has not prepared the data.
    ValueError: if the name or the split is unknown, the data is not there, or
      it or the list does not have the form expected; the message says what to
      do.
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
    options |= _form(dataset)
  if kind not in OPENERS:
    raise ValueError(
      f'unknown dataset {name!r}; give digits, folder:PATH, tfds:NAME,'
      f' vtab:TASK, or one of {", ".join(catalog.DATASETS)}.'
    )
  return OPENERS[kind](path, split, **options)
