"""Checkpoints of the Hugging Face Hub: hf://ORG/NAME or hf://ORG/NAME@REVISION.

The Hub's own library downloads them to the cache that it shares with other
programs. It follows HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and its
other environment variables, which it reads when it is imported.
"""

import re

from etils import epath

from vit_jax import foreign_errors
from vit_jax.checkpoints import location
from vit_jax.checkpoints.formats import huggingface

_NAME = re.compile(r'hf://([\w.-]+/[\w.-]+)(?:@(.+))?')


def is_name(text: str) -> bool:
  """Returns whether a text names a repository of the Hub, valid or not."""
  return text.startswith('hf://')


def parse(name: str) -> tuple[str, str | None]:
  """Returns the repository, and its branch, tag or commit if one is given.

  Raises:
    ValueError: if the name has another form.
  """
  if match := _NAME.fullmatch(name):
    return match[1], match[2]
  raise ValueError(
    f'{name!r} is not a repository of the Hugging Face Hub; write hf://ORG/NAME,'
    ' or hf://ORG/NAME@REVISION for a branch, a tag or a commit.'
  )


def fetch(name: str) -> epath.Path:
  """Returns a local folder with the weights and settings of a repository.

  Downloads what the cache lacks. Without a connection, the cache is used as it
  is.

  Raises:
    ValueError: if the Hub's library is missing, the repository has no weights
      in a format that is read, or they cannot be downloaded.
  """
  repository, revision = parse(name)
  try:
    import huggingface_hub  # Optional, and takes a second.
    from huggingface_hub import constants
  except ImportError as error:
    raise ValueError(
      f'{name} needs the huggingface_hub library, which is not installed; run'
      ' `pip install huggingface_hub`.'
    ) from error
  unreachable = ''
  try:
    if not constants.HF_HUB_OFFLINE:  # The library would wait without a limit.
      unreachable = location.unreachable(constants.ENDPOINT)
    folder = huggingface_hub.snapshot_download(
      repository,
      revision=revision,
      allow_patterns=list(huggingface.FILES),
      local_files_only=bool(unreachable),
    )
  except MemoryError:
    raise
  except Exception as error:  # The library raises errors of many types.
    raise ValueError(f'{name} {_explain(error, unreachable)}') from error
  if not (epath.Path(folder) / huggingface.WEIGHTS).exists():
    raise ValueError(
      f'{name} has no {huggingface.WEIGHTS}, the only file of weights that is'
      ' read; loading pytorch_model.bin can run any code. Look for a revision'
      f' with this file, such as {name.partition("@")[0]}@refs/pr/1 of a pull'
      ' request, or write it with save_pretrained() and give the folder.'
    )
  return epath.Path(folder)


def _explain(error: Exception, unreachable: str) -> str:
  """Returns why a repository cannot be read, and what to do."""
  from huggingface_hub import errors

  login = 'log in with `hf auth login`'
  match error:
    case errors.GatedRepoError():
      return f'is gated: accept its conditions on the Hub, and {login}.'
    case errors.RepositoryNotFoundError():
      return (
        f'does not exist on the Hub, or is private: check its name, or {login}.'
      )
    case errors.RevisionNotFoundError():
      return 'has no such revision; give a branch, a tag or a commit.'
    case errors.LocalEntryNotFoundError():
      cause = foreign_errors.message(error.__cause__ or error)
      return (
        'is not in the cache, and the Hub cannot be reached'
        f' ({unreachable or cause.rstrip(".")}); check the network, HF_ENDPOINT'
        ' and HF_HUB_OFFLINE, or give a local path.'
      )
  reason = foreign_errors.message(error).rstrip('.')
  return f'cannot be downloaded ({reason}); repeat the command to try again.'
