"""The run of every training job, from start or checkpoint to results.

Jobs differ in what the model learns and how it is evaluated: a `Trainable`.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import itertools
import logging
import time
from typing import Any, Protocol

from clu import parameter_overview
from etils import epath
import flax.linen as nn
import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build, checkpoints
from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.build import program as program_lib
from vit_jax.checkpoints import finite
from vit_jax.checkpoints import store as store_lib
from vit_jax.data import pipeline
from vit_jax.distributed import cpu, preemption, processes, sharding
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.models import stacking
from vit_jax.training import loop, steps
from vit_jax.training import state as state_lib
from vit_jax.workdir import (
  claim,
  console,
  data_record,
  files,
  profiler,
  results,
)
from vit_jax.workdir import metrics as metrics_lib

_log = logging.getLogger(__name__)

# Takes the step, the weights to evaluate and the metric log; writes the metrics
# that it returns, and other output, to the log.
Evaluation = Callable[[int, PyTree, metrics_lib.MetricLog], dict[str, float]]


class Trainable(Protocol):
  """The program and the evaluation of a run, built before anything compiles.

  Attributes:
    program: the training step.
    backbone: model for few-shot evaluation, which uses its features; has the
      parameters of the program's model.
    evaluations: additional evaluations, each with its interval in steps; 0
      evaluates only the last step.
  """

  program: program_lib.Program
  backbone: nn.Module
  evaluations: Sequence[tuple[int, Evaluation]] = ()

  def evaluate(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], Any]:
    """Returns exact metrics of the evaluation splits, and the predictions.

    Args:
      params: weights to evaluate.
      raw_params: the current weights if `params` are their average.
    """

  def write_predictions(
    self, workdir: epath.Path, predictions: Any
  ) -> dict[str, Any]:
    """Writes the last predictions; returns additional results of the run."""
    del workdir, predictions
    return {}


# Takes the config, the data, the mesh and the weights of `init_from`.
MakeTrainable = Callable[
  [ml_collections.ConfigDict, build.Data, Mesh, build.Weights | None],
  Trainable,
]


def train(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  make_trainable: MakeTrainable,
) -> None:
  """Trains, evaluates, and writes `final.npz` and `results.json`.

  Resumes from the newest checkpoint in `workdir`. If the run in `workdir` is
  finished, logs that and returns.

  Raises:
    ValueError: if parts of the config do not match each other or the data.
  """
  if claim.is_finished(config_lib.flatten(config), workdir, training=True):
    return

  # From the config to parts; an invalid config fails here.
  config = config.copy_and_resolve_references()
  mesh = mesh_lib.create(**config.mesh)
  mesh_lib.check_batch(config.batch_size, mesh, config.optim.accumulate)
  start = build.load_weights(config)
  build.set_image_kind(config, start)
  with console.phase('opening the data'):
    data = build.open_data(config)
    record = data_record.describe(data.train, data.evals)
    data_record.check(workdir, record)
  if start and start.description.num_classes and config.init_head == 'keep':
    match = build.match_classes(
      config, data, start.class_names, start.description.num_classes
    )
    data = build.with_labels_of(data, match)
  trainable = make_trainable(config, data, mesh, start)
  program = trainable.program
  program.check_memory()
  profiled = config_lib.profiled_steps(config, program.total_steps)
  trace = profiler.Profiler(workdir, profiled)
  build.record_derived(config, trainable.backbone)
  evaluations = list(trainable.evaluations)
  if config.few_shot.every:
    few_shot = few_shot_evaluator.FewShotEvaluator(
      config, trainable.backbone, mesh
    )
    evaluations.append((config.few_shot.every, _few_shot_evaluation(few_shot)))
  params = start and build.fit_weights(config, program.plain_model, start)
  begin = time.perf_counter()

  # Only a valid run claims the folder.
  claim.start(config_lib.flatten(config), workdir)
  claim.check_shared(workdir)
  data_record.write(
    workdir, record, data.class_names, multi_label=data.train.multi_label
  )
  _log_sizes(program)
  with store_lib.Store(
    workdir / files.CHECKPOINTS, keep=config.keep_checkpoints
  ) as store:
    with console.phase('looking for a checkpoint'):
      restored = store.restore(program.file_state)
    step, skipped = 0, 0
    if restored:
      step, skipped = restored.step, restored.meta['skipped']
    batches = _Batches(config, data, program, step, skipped)
    if step < program.total_steps:
      batches.read_first()
    if restored:
      finite.check(
        restored.state,
        f'{workdir / files.CHECKPOINTS / str(step)}',
        '; remove this checkpoint to resume from an earlier one.',
      )
      _log.info('resuming from step %d', step)
      begin -= restored.meta['seconds']
      state = program.to_training_layout(restored.state)
    else:
      with console.phase('initializing the parameters'):
        state = program.create_state(params)
    del start, params, restored
    metric_log = metrics_lib.MetricLog(workdir, resume_step=step)
    best_step = (files.read_json(workdir / files.BEST_STEP) or {}).get('step')

    def report(progress: loop.Progress) -> None:
      metrics_lib.log_progress(
        progress,
        metric_log,
        total_steps=program.total_steps,
        batch_size=config.batch_size,
        skipped=batches.skipped(),
      )

    def evaluate(step: int, state: state_lib.State) -> tuple[dict, Any]:
      with finite.located(f'evaluation at step {step}'):
        metrics, predictions = trainable.evaluate(
          _weights(state),
          raw_params=None if state.ema_params is None else state.params,
        )
      metric_log.write(step, metrics)
      best = config.best_metric and metric_log.best(config.best_metric)
      if best and best[0] == step:
        _log.info('%s is the best so far', config.best_metric)
        files.write_json(workdir / files.BEST_STEP, {'step': step})
        _export(state, workdir / files.BEST_WEIGHTS)
      return metrics, predictions

    def on_weights(evaluation: Evaluation):
      def evaluate(step: int, state: state_lib.State) -> dict[str, float]:
        with finite.located(f'evaluation at step {step}'):
          return evaluation(step, _weights(state), metric_log)

      return evaluate

    def save(step: int, state: state_lib.State) -> None:
      seconds = time.perf_counter() - begin
      meta = {'seconds': seconds, 'skipped': batches.skipped() or 0}
      store.save(step, program.to_file_layout(state), meta=meta)

    def before_step(step: int) -> None:
      trace.before_step(step)
      store.check()

    if step < program.total_steps:
      with console.phase('compiling the training step'):
        train_step = program.compile()
      with preemption.StopSignal() as stop_signal, trace:
        state, step = loop.train(
          state,
          train_step,
          iter(batches),
          start_step=step,
          total_steps=program.total_steps,
          log_every=config.log_every,
          report=report,
          evaluations=[
            (config.eval_every, evaluate),
            *((every, on_weights(e)) for every, e in evaluations),
          ],
          # The best weights may be from a step after the checkpoint, which
          # another eval_every would leave out.
          also_at={best_step: evaluate},
          checkpoint_every=config.checkpoint_every,
          save=save,
          before_step=before_step,
          should_stop=stop_signal.received,
        )
        store.wait()
        if stop_signal.stopped:
          _log.info(
            'stopped by %s at step %d; the same command resumes',
            stop_signal.name,
            step,
          )
      if stop_signal.stopped:
        return
      _give_back_memory()

    # The last step is evaluated, and the results are written.
    metrics, predictions = evaluate(step, state)
    for _, evaluation in evaluations:
      more = on_weights(evaluation)(step, state)
      metrics = metrics | more
    _export(state, workdir / files.FINAL_WEIGHTS)
    if best := config.best_metric and metric_log.best(config.best_metric):
      name = f'best/{config.best_metric}'
      metrics = metrics | {'best/step': best[0], name: best[1]}
    details = trainable.write_predictions(workdir, predictions)
    results.write(
      workdir,
      config.job,
      seconds=time.perf_counter() - begin,
      params=program.state.params,
      metrics=metrics,
      step=step,
      num_train_examples=data.train.num_examples,
      **details,
    )
  _give_back_memory()


def _give_back_memory() -> None:
  freed = cpu.give_back_memory() / 2**30
  if freed >= 0.1:
    _log.info('returned %.2f GiB of free memory to the system', freed)


class _Batches:
  """Training batches on the mesh, and the number of unreadable examples."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    data: build.Data,
    program: program_lib.Program,
    start_step: int,
    skipped: int,
  ):
    """Starts at a step; `skipped` examples before it were unreadable."""
    self._config = config
    self._data = data
    self._program = program
    self._start_step = start_step
    self._skipped_before = skipped
    self._skipped_here = 0
    self._first_read = None

  def read_first(self) -> None:
    """Starts reading the first batch in a thread.

    Importing TensorFlow and starting its pipeline takes seconds, during which
    the step is compiled.
    """
    reader = futures.ThreadPoolExecutor(1)
    self._first_read = reader.submit(self._read)
    reader.shutdown(wait=False)

  def _read(self) -> Iterator[pipeline.Batch]:
    """Returns all batches, after it has read the first one."""
    batches = pipeline.train_batches(
      self._data.train,
      self._data.train_transform,
      batch_size=self._config.batch_size,
      seed=self._config.seed,
      start_step=self._start_step,
      readers=self._config.data.readers,
      skip_corrupt=self._config.data.skip_corrupt,
      **mesh_lib.input_share(self._program.mesh),
    )
    return itertools.chain([next(batches)], batches)

  def __iter__(self) -> Iterator[steps.Batch]:
    for batch in self._first_read.result():
      self._skipped_here += int(np.sum(batch['mask'] == 0))
      needed = {name: batch[name] for name in self._program.batch}
      yield mesh_lib.put_batch(needed, self._program.mesh)

  def skipped(self) -> int | None:
    """Counts the unreadable examples of all processes; None if not skipped."""
    if not self._config.data.skip_corrupt:
      return None
    # Several processes may read the same rows.
    shares = mesh_lib.input_share(self._program.mesh)['process_count']
    total = processes.sum_over_processes(self._skipped_here)
    return self._skipped_before + total * shares // jax.process_count()


def _log_sizes(program: program_lib.Program) -> None:
  _log.info(
    'parameters:\n%s',
    parameter_overview.get_parameter_overview(
      program.file_state.params, include_stats=False
    ),
  )
  if program.mesh.size > 1:
    _log.info('mesh %s', sharding.summary(program.state, program.mesh))


def _weights(state: state_lib.State) -> PyTree:
  """Returns the weights to evaluate and export: the average, if one is kept."""
  return state.params if state.ema_params is None else state.ema_params


def _export(state: state_lib.State, path: epath.Path) -> None:
  weights = processes.fetch(_weights(state))
  if processes.is_first():
    checkpoints.export(stacking.unstack(weights), path)


def _few_shot_evaluation(
  evaluator: few_shot_evaluator.FewShotEvaluator,
) -> Evaluation:
  def evaluate(step, params, metric_log):
    metrics = few_shot_evaluator.means(evaluator.evaluate(params))
    metric_log.write(step, metrics)
    return metrics

  return evaluate
