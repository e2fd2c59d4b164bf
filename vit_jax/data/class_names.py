"""Reads files with the names of classes."""

import json

from vit_jax.checkpoints import location, regular_file


def read(path: str, key: str) -> tuple[str, ...]:
  """Reads the names of classes, in order.

  Args:
    path: a text file with one name per line, or JSON: a list of names,
      `{index: name}` or `{index: [WordNet ID, name]}`.
    key: config key with the path, for messages.

  Raises:
    ValueError: if the file is missing or has another format.
  """
  file = location.expand(path)
  if not file.is_file():
    raise ValueError(f'{key}: there is no file {path!r}.')
  text = regular_file.read_text(file)
  if not text.lstrip().startswith(('[', '{')):
    return tuple(line.strip() for line in text.splitlines() if line.strip())
  try:
    names = json.loads(text)
    if isinstance(names, dict):
      by_index = {int(index): name for index, name in names.items()}
      names = [by_index[index] for index in range(len(by_index))]
    names = [n[-1] if isinstance(n, list) else n for n in names]
    if not all(isinstance(name, str) for name in names):
      raise TypeError('a name is not a string')
  except (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    RecursionError,
  ) as error:
    raise ValueError(
      f'{key}: {path} is neither a JSON list of names nor'
      ' {"0": NAME, ...} nor {"0": [WORDNET_ID, NAME], ...}, indexed from 0:'
      f' {error!r}.'
    ) from error
  return tuple(names)
