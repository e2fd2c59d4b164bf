"""Few-shot linear accuracy of a checkpoint, or of random weights."""

import time

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator, pretrained
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.workdir import claim, console, results


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Evaluates the features of `init_from` on `few_shot.datasets`.

  Prints a table and writes `results.json`: mean and standard deviation over the
  draws as metrics, and the accuracy of each draw.

  Raises:
    ValueError: if checkpoint, data and config do not match.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  with console.phase('reading the checkpoint'):
    model = pretrained.load_backbone(config)
  mesh = mesh_lib.create(**config.mesh)
  evaluator = few_shot_evaluator.FewShotEvaluator(
    model.config, model.model, mesh
  )
  params = mesh_lib.put(model.params, mesh_lib.replicated(mesh))
  claim.start(config_lib.flatten(config), workdir)

  accuracies = evaluator.evaluate(params)
  means = few_shot_evaluator.means(accuracies)
  spreads = few_shot_evaluator.spreads(accuracies)
  rows = [('few-shot accuracy', 'mean', 'std')]
  rows += [(k, f'{v:.4f}', f'{spreads[k]:.4f}') for k, v in means.items()]
  console.show(console.table(rows))
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    params=model.params,
    metrics=means | {f'{k}_std': v for k, v in spreads.items()},
    init_from=config.init_from,
    accuracies=accuracies,
    num_examples={
      name: {'train': len(dataset.rows), 'test': dataset.queries.num_examples}
      for name, dataset in evaluator.datasets.items()
    },
  )
