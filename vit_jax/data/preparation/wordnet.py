"""Words for WordNet IDs, from lists as in the releases of ImageNet."""

from __future__ import annotations

import re

from etils import epath

from vit_jax.checkpoints import regular_file

# Lists of an ID and its words per line, as in the releases of ImageNet and
# ILSVRC, in Caffe, and on Kaggle; and lists whose lines belong together.
LISTS = ('words.txt', 'synset_words.txt', 'LOC_synset_mapping.txt')
ID_LIST, WORD_LIST = (
  'imagenet21k_wordnet_ids.txt',
  'imagenet21k_wordnet_lemmas.txt',
)

_LINE = re.compile(r'(n\d{8})\s+(.*\S)\s*')


def find_words(folder: epath.Path) -> dict[str, str]:
  """Returns the first word of every WordNet ID, from a list in a folder.

  The lists, in this order, are LISTS, and ID_LIST with WORD_LIST.

  Returns:
    Such as {'n01440764': 'tench'}; empty if there is no list.

  Raises:
    ValueError: if a list has no lines of the expected form.
  """
  for name in LISTS:
    if (folder / name).exists():
      lines = regular_file.read_text(folder / name).splitlines()
      return _parse(lines, f'{folder / name}')
  if (folder / ID_LIST).exists() and (folder / WORD_LIST).exists():
    ids, words = (
      regular_file.read_text(folder / name).splitlines()
      for name in (ID_LIST, WORD_LIST)
    )
    if len(ids) != len(words):
      raise ValueError(
        f'{folder / ID_LIST} has {len(ids)} lines, but {WORD_LIST} has'
        f' {len(words)}; expected the same number.'
      )
    lines = [f'{a} {b}' for a, b in zip(ids, words, strict=True)]
    return _parse(lines, f'{folder / ID_LIST}')
  return {}


def _parse(lines: list[str], file: str) -> dict[str, str]:
  words = {}
  for line in lines:
    if match := _LINE.fullmatch(line):
      first, _, _ = match[2].partition(',')
      words[match[1]] = first.strip().replace('_', ' ')
  if not words:
    raise ValueError(
      f'{file} has no line such as `n01440764 tench, Tinca tinca`; correct or'
      ' remove it.'
    )
  return words
