"""Opening examples by name: the embedded digits, image folders, TFDS."""

from collections.abc import Callable, Mapping
import types

from vit_jax.data import catalog, digits, exclusions, folder
from vit_jax.data.examples import Source


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
  # Imported late: it costs time that the other sources need not spend.
  from vit_jax.data import tfds_source

  return tfds_source.open_tfds(path, split, **options)


OPENERS: Mapping[str, Callable[..., Source]] = types.MappingProxyType(
  {'digits': _open_digits, 'folder': _open_folder, 'tfds': _open_tfds}
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
    name: `digits`; `folder:PATH`; `tfds:NAME[/CONFIG][:VERSION]`; or a name of
      `catalog.DATASETS`.
    split: a split's name, a part of it such as `train[:98%]`, `train[100:200]`,
      or a sum of such.
    data_dir: TFDS: where prepared data lies; empty for TFDS's own default.
    manual_dir: TFDS: where files lie that it cannot download.
    download: TFDS: whether to download and prepare what is not there.
    subset: if not zero, how many examples to draw at random.
    seed: seed of the subset.
    exclude: if not empty, the path of a list of examples to leave out; a subset
      is drawn from the others.

  Raises:
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
    options['label'] = dataset.label
  if kind not in OPENERS:
    raise ValueError(
      f'unknown dataset {name!r}; give digits, folder:PATH, tfds:NAME, or one'
      f' of {", ".join(catalog.DATASETS)}.'
    )
  return OPENERS[kind](path, split, **options)
