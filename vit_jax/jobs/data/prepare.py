"""Downloads and prepares what TensorFlow Datasets can."""

import logging

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.data import registry, source, tfds_builders
from vit_jax.workdir import claim, console, results

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Prepares all of `prepare.datasets` that is not there.

  Raises:
    ValueError: if a name is unknown; in the end, naming all that could not be
      prepared and why.
  """
  builders = _builders(config)
  claim.restart(config_lib.flatten(config), workdir)
  states, failed = {}, {}
  for place, (name, builder) in enumerate(builders.items()):
    step = f'{place + 1} of {len(builders)}, {name}'
    if builder.info.splits:
      _log.info('%s: is in %s', step, builder.data_path)
      states[name] = 'was there'
      continue
    urls = (builder.url_infos or {}).values()
    size = sum(url.size or 0 for url in urls) / 2**30
    try:
      with console.phase(f'{step}: preparing ({size:.1f} GiB to download)'):
        tfds_builders.prepare(builder, name, config.data.manual_dir)
      states[name] = 'prepared'
    except source.NotPreparedError as error:
      _log.warning('%s', error)
      states[name] = 'failed'
      failed[name] = str(error)
  table = console.table(list(states.items()))
  _log.info('%s', table)
  results.write(workdir, config.job, datasets=states)
  if failed:
    reasons = '\n  '.join(failed.values())
    raise ValueError(
      f'{len(failed)} of {len(builders)} datasets could not be prepared; the'
      f' same command again tries them anew:\n  {reasons}'
    )


def _builders(config):
  """TFDS builders by their names."""
  names = []
  for name in filter(None, map(str.strip, config.prepare.datasets.split(','))):
    names += registry.tfds_builders(name)
  if not names:
    raise ValueError(
      'prepare.datasets is empty; name datasets, such as vtab or cifar10.'
    )
  return {
    name: tfds_builders.find(name, name, config.data.dir)
    for name in dict.fromkeys(names)
  }
