"""Regular expressions that select weights by their full paths."""

from collections.abc import Sequence
import json
import subprocess
import sys

import jax
from jaxtyping import PyTree

_MATCH_SECONDS = 10
_MATCH = """
import json, re, sys
pattern, names = json.load(sys.stdin)
json.dump([bool(re.fullmatch(pattern, name)) for name in names], sys.stdout)
"""
ADVICE = (
  'write a regular expression that matches the whole path of some weights, such'
  " as 'head/kernel' or 'Transformer/encoderblock_0/LayerNorm_0/scale'."
)


def names(params: PyTree) -> list[str]:
  """Returns the path of every weight, such as 'head/kernel', in tree order."""
  paths, _ = jax.tree_util.tree_flatten_with_path(params)
  return ['/'.join(entry.key for entry in path) for path, _ in paths]


def full_matches(key: str, pattern: str, names: Sequence[str]) -> list[bool]:
  """Returns which names a regular expression matches as a whole.

  Nested quantifiers can take years, and `re` cannot be interrupted. Matching
  therefore runs in another process, which can be stopped.

  Args:
    key: the config key of the pattern, for messages.
    pattern: the regular expression.
    names: paths of weights.

  Raises:
    ValueError: if the pattern takes too long to match.
  """
  try:
    matched = subprocess.run(
      [sys.executable, '-I', '-S', '-c', _MATCH],
      input=json.dumps([pattern, names]),
      capture_output=True,
      text=True,
      check=True,
      timeout=_MATCH_SECONDS,
    )
  except subprocess.TimeoutExpired as error:
    raise ValueError(
      f'{key}={pattern!r} takes more than {_MATCH_SECONDS} s to match the paths'
      ' of the weights; write it without nested quantifiers such as (a+)+.'
    ) from error
  return json.loads(matched.stdout)
