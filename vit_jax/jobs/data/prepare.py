"""Prepares datasets of TensorFlow Datasets (TFDS), or the user's own images."""

import logging

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import registry, tfds_builders
from vit_jax.data.preparation import kinds
from vit_jax.data.source import NotPreparedError
from vit_jax.jobs.data import prepare_original
from vit_jax.workdir import claim, console, results

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Prepares the datasets of `prepare.datasets` that are not prepared yet.

  Raises:
    ValueError: if a name is unknown, or, at the end, if some datasets could not
      be prepared, with the reasons; or see `prepare_original.run`.
  """
  source = ','.join(config.prepare.datasets)  # Its path may contain commas.
  if source.partition(':')[0] in kinds.KINDS:
    prepare_original.run(source, config, workdir)
    return
  builders = _find_builders(config)
  claim.restart(config_lib.flatten(config), workdir)
  states, reasons = {}, []
  for number, (name, builder) in enumerate(builders.items(), 1):
    step = f'{number} of {len(builders)}, {name}'
    if builder.info.splits:
      _log.info('%s: already prepared in %s', step, builder.data_path)
      states[name] = 'already prepared'
      continue
    urls = (builder.url_infos or {}).values()
    size = sum(url.size or 0 for url in urls) / 2**30
    try:
      with console.phase(f'{step}: preparing ({size:.1f} GiB to download)'):
        tfds_builders.prepare(builder, name, config.data.manual_dir)
      states[name] = 'prepared'
    except NotPreparedError as error:
      _log.warning('%s', error)
      states[name] = 'failed'
      reasons.append(str(error))
  _log.info('%s', console.table(list(states.items())))
  results.write(workdir, config.job, datasets=states)
  if reasons:
    details = '\n  '.join(reasons)
    raise ValueError(
      f'{len(reasons)} of {len(builders)} datasets could not be prepared; fix'
      f' the causes, then run the same command again:\n  {details}'
    )


def _find_builders(config):
  """Returns the TFDS builders by name."""
  names = []
  for name in config.prepare.datasets:
    names += registry.tfds_builders(name)
  if not names:
    raise ValueError(
      'prepare.datasets is empty; set it to datasets such as vtab or cifar10,'
      ' separated by commas.'
    )
  return {
    name: tfds_builders.find(name, name, config.data.dir)
    for name in dict.fromkeys(names)
  }
