"""The data of a run, in `data.json`: a resumed run must use the same data.

It holds `class_names`, those of the model in label order; `multi_label`,
whether the model learns any number of labels per image; for `train`, the class
names of the data; and for `train` and each of `evals`, the number of
examples and `Source.fingerprint`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from vit_jax.checkpoints import run_folder
from vit_jax.data import shortened
from vit_jax.data.source import Source
from vit_jax.distributed import processes
from vit_jax.workdir import files

_MAX_LISTED = 10

Record = Mapping[str, Any]


def describe(train: Source, evals: Mapping[str, Source]) -> Record:
  """Returns the record of a run's splits."""
  return {
    'train': {'class_names': list(train.class_names), **_describe(train)},
    'evals': {name: _describe(source) for name, source in evals.items()},
  }


def write(
  workdir: epath.Path,
  record: Record,
  class_names: Sequence[str],
  *,
  multi_label: bool,
) -> None:
  """Writes `data.json`; see above for `class_names` and `multi_label`."""
  path = workdir / files.DATA
  earlier = files.read_json(path)
  evals = record['evals']
  if earlier and run_folder.has_checkpoint(workdir):
    # The metrics of a split that is no longer evaluated remain.
    evals = earlier.get('evals', {}) | evals
  content = {
    'class_names': list(class_names),
    'multi_label': multi_label,
    **record,
    'evals': evals,
  }
  files.update_json(path, content)


def check(workdir: epath.Path, record: Record) -> None:
  """Checks that a run with checkpoints resumes on the data it started with.

  A run without a record passes.

  Args:
    workdir: folder of the run.
    record: from `describe`; only process 0 needs it.

  Raises:
    ValueError: if the data has changed; the message says how.
  """

  def compare():
    earlier = run_folder.read_json(workdir / files.DATA) or {}
    if not run_folder.has_checkpoint(workdir):
      return []
    return changes(earlier, record)

  if changed := processes.from_first(compare):
    raise ValueError(
      f'{workdir} holds a run that was trained on different data:'
      f' {"; ".join(changed)}. Restore the data to resume it (a new evaluation'
      ' split needs a name of its own), or choose another --workdir.'
    )


def changes(earlier: Record, now: Record) -> list[str]:
  """Describes the differences between two records.

  Fields that the earlier record lacks are not compared.
  """
  found = []
  if old := earlier.get('train'):
    found += _class_changes(old, now['train'])
    found += _split_changes('training', old, now['train'])
  for name, old in earlier.get('evals', {}).items():
    if name in now['evals']:
      found += _split_changes(f'split {name!r}', old, now['evals'][name])
  return found


def _describe(source: Source) -> dict[str, Any]:
  return {'num_examples': source.num_examples, **source.fingerprint()}


def _class_changes(earlier: Record, now: Record) -> list[str]:
  """Describes changes of the class names.

  A class is renamed if its training files are the same under a new name.
  """
  old, new = earlier['class_names'], now['class_names']
  removed = [name for name in old if name not in set(new)]
  added = [name for name in new if name not in set(old)]
  old_files, new_files = earlier.get('classes', {}), now.get('classes', {})
  renamed = {}
  for name in removed:
    for other in added:
      same = old_files.get(name, 0) == new_files.get(other, 1)
      if same and other not in renamed.values():
        renamed[name] = other
        break
  found = []
  if renamed:
    pairs = [f'{a!r} is now {b!r}' for a, b in renamed.items()]
    found.append(f'renamed classes: {shortened.join(pairs, _MAX_LISTED)}')
  for what, names in (('removed', removed), ('added', added)):
    known = {*renamed, *renamed.values()}
    if rest := [repr(name) for name in names if name not in known]:
      found.append(f'{what} classes: {shortened.join(rest, _MAX_LISTED)}')
  if not found and old != new:
    found.append('classes in another order')
  return found


def _split_changes(split: str, earlier: Record, now: Record) -> list[str]:
  found = []
  for field, old in earlier.items():
    new = now.get(field)
    if old == new or field == 'class_names':
      continue
    if field == 'classes':
      found += _file_changes(split, old, new or {})
    elif field == 'num_examples':
      found.append(f'{split}: {old} -> {new} examples')
    else:
      found.append(f'{split}: {field} {_short(old)} -> {_short(new)}')
  return found


def _file_changes(split: str, old: Record, new: Record) -> list[str]:
  """Describes changes of the files of classes that are in both records."""
  parts = []
  for name in old:
    if name not in new or old[name] == new[name]:
      continue
    (before, _), (after, _) = old[name], new[name]
    if before != after:
      parts.append(f'{before} -> {after} images of {name!r}')
    else:
      parts.append(f'files of {name!r} differ')
  return [f'{split}: {shortened.join(parts, _MAX_LISTED)}'] if parts else []


def _short(value: Any) -> str:
  return repr(value) if value is not None else 'none'
