"""Training on labelled images: what supervised jobs share."""

from collections.abc import Iterator
import logging
import time
from typing import Any

from clu import parameter_overview
from etils import epath
import jax
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import checkpoints, report
from vit_jax import config as config_lib
from vit_jax.checkpoints import store as store_lib
from vit_jax.data import pipeline
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import preemption, processes
from vit_jax.jobs import assemble, few_shot_scoring, scoring, workdirs
from vit_jax.training import loop, steps
from vit_jax.training import state as state_lib

_log = logging.getLogger(__name__)


def train(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains, evaluates, and leaves `final.npz` and `results.json`.

  Goes on from the newest checkpoint in `workdir`; says so and returns if the
  run there is finished.

  Raises:
    ValueError: if parts of the config do not fit each other or the data.
  """
  if workdirs.is_finished(config, workdir):
    return
  run = _Run(config.copy_and_resolve_references(), workdir)
  workdirs.claim(run.config, workdir)
  workdirs.check_shared(workdir)
  with (
    preemption.StopSignal() as stop_signal,
    store_lib.Store(
      workdir / 'checkpoints', keep=config.keep_checkpoints
    ) as store,
  ):
    state, step = run.start(store)
    with report.MetricLog(workdir, resume_step=step) as metric_log:
      state, step = run.train(state, step, store, metric_log, stop_signal)
      store.wait()
      if step == run.total_steps:
        run.finish(state, metric_log)
      else:
        _log.info(
          'stopped by SIGTERM at step %d; the same command goes on', step
        )


class _Run:
  """The parts of one run, put together before anything is compiled."""

  def __init__(self, config: ml_collections.ConfigDict, workdir: epath.Path):
    self.config = config
    self.workdir = workdir
    self.mesh = mesh_lib.create(config.mesh.data)
    mesh_lib.check_batch(config.batch_size, self.mesh, config.optim.accumulate)
    self.profiler = report.Profiler(workdir, assemble.profiled_steps(config))
    with report.phase('opening the data'):
      self.data = assemble.data(config)
    start = assemble.weights(config)
    self.model = assemble.model(config, len(self.data.class_names), start)
    assemble.note_derived(config, self.model)
    self.scorer = scoring.Scorer(config, self.data, self.model, self.mesh)
    self.few_shot = None
    if config.few_shot.every:
      self.few_shot = few_shot_scoring.Scorer(config, self.model, self.mesh)
    self.total_steps = config_lib.total_steps(
      config, self.data.train.num_examples
    )
    self.start_params = start and assemble.fit(config, self.model, start)
    param_shapes = jax.eval_shape(self._initial_params)
    self.frozen = assemble.frozen(config, param_shapes)
    self.optimizer, self.learning_rate = assemble.optimizer(
      config, self.total_steps, self.frozen
    )
    sharding = mesh_lib.replicated(self.mesh)
    self.state_shapes = jax.tree.map(
      lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding),
      jax.eval_shape(self._initial_state, param_shapes),
    )
    self.begin = time.perf_counter()
    self._skipped = 0  # Examples before this start that could not be read,
    self._skipped_here = 0  # and since, in this process.

  @property
  def seconds(self) -> float:
    """Time of the run, earlier starts included up to their checkpoint."""
    return time.perf_counter() - self.begin

  def _count_skipped(self) -> int | None:
    """Examples of all processes that could not be read; None if none may be."""
    if not self.config.data.skip_corrupt:
      return None
    # Several processes may read the same rows.
    shares = mesh_lib.share(self.mesh)['process_count']
    total = processes.total(self._skipped_here)
    return self._skipped + total * shares // jax.process_count()

  def _initial_params(self) -> PyTree:
    return assemble.initial_params(self.config, self.model)

  def _initial_state(self, params: PyTree) -> state_lib.State:
    return state_lib.create(
      params, self.optimizer, average=self.config.optim.ema_decay > 0
    )

  def start(self, store: store_lib.Store) -> tuple[state_lib.State, int]:
    """The newest checkpoint's state, or a new one, and its step."""
    _log.info(
      'parameters:\n%s',
      parameter_overview.get_parameter_overview(
        self.state_shapes.params, include_stats=False
      ),
    )
    with report.phase('looking for a checkpoint'):
      restored = store.restore(self.state_shapes)
    if restored:
      _log.info('going on from step %d', restored.step)
      self.begin -= restored.meta['seconds']
      self._skipped = restored.meta['skipped']
      return restored.state, restored.step
    with report.phase('initialising the parameters'):
      sharding = mesh_lib.replicated(self.mesh)
      if self.start_params:
        params = mesh_lib.put(self.start_params, sharding)
      else:
        params = jax.jit(self._initial_params, out_shardings=sharding)()
      create = jax.jit(
        self._initial_state, out_shardings=sharding, donate_argnums=0
      )
      return create(params), 0

  def train(
    self,
    state: state_lib.State,
    start_step: int,
    store: store_lib.Store,
    metric_log: report.MetricLog,
    stop_signal: preemption.StopSignal,
  ) -> tuple[state_lib.State, int]:
    """Runs the loop from `start_step`."""
    if start_step == self.total_steps:
      return state, start_step
    config = self.config

    def log(progress: loop.Progress) -> None:
      report.log_progress(
        progress,
        metric_log,
        total_steps=self.total_steps,
        batch_size=config.batch_size,
        skipped=self._count_skipped(),
      )

    def evaluate(step: int, state: state_lib.State) -> None:
      self._evaluate(step, state, metric_log)

    def evaluate_few_shot(step: int, state: state_lib.State) -> None:
      self._evaluate_few_shot(step, state, metric_log)

    def save(step: int, state: state_lib.State) -> None:
      meta = {'seconds': self.seconds, 'skipped': self._count_skipped() or 0}
      store.save(step, state, meta=meta)

    def before_step(step: int) -> None:
      self.profiler.before_step(step)
      store.check()

    with self.profiler:
      return loop.train(
        state,
        self._compiled_step(state),
        self._batches(start_step),
        start_step=start_step,
        total_steps=self.total_steps,
        log_every=config.log_every,
        report=log,
        evaluations=[
          (config.eval_every, evaluate),
          (config.few_shot.every, evaluate_few_shot),
        ],
        checkpoint_every=config.checkpoint_every,
        save=save,
        before_step=before_step,
        should_stop=stop_signal.received,
      )

  def _compiled_step(self, state: state_lib.State) -> steps.Step:
    config = self.config
    objective = assemble.objective(config, self.model, self.data)
    if self.frozen:
      objective = steps.hold(objective, self.frozen)
    train_step = steps.make_train_step(
      objective,
      self.optimizer,
      self.learning_rate,
      seed=config.seed,
      accumulate=config.optim.accumulate,
      ema_decay=config.optim.ema_decay,
    )
    jitted = jax.jit(
      train_step,
      donate_argnums=0,
      out_shardings=mesh_lib.replicated(self.mesh),
    )
    batch = assemble.batch_shapes(
      config, self.data.train, mesh_lib.batch_sharding(self.mesh)
    )
    with report.phase('compiling the training step'):
      return jitted.lower(state, batch).compile()

  def _batches(self, start_step: int) -> Iterator[steps.Batch]:
    batches = pipeline.train_batches(
      self.data.train,
      self.data.train_transform,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      start_step=start_step,
      readers=self.config.data.readers,
      skip_corrupt=self.config.data.skip_corrupt,
      **mesh_lib.share(self.mesh),
    )
    for batch in batches:
      self._skipped_here += int(np.sum(batch['mask'] == 0))
      del batch['index']
      yield mesh_lib.put_batch(batch, self.mesh)

  def _evaluate(
    self, step: int, state: state_lib.State, metric_log: report.MetricLog
  ) -> tuple[dict[str, float], scoring.Predictions]:
    averaged = state.ema_params is not None
    metrics, predictions = self.scorer.score(
      _weights(state), raw_params=state.params if averaged else None
    )
    metric_log.write(step, metrics)
    best = self._best(metric_log)
    if best and best[0] == step:
      _log.info('%s is the best so far', self.config.best_metric)
      self._export(state, 'best.npz')
    return metrics, predictions

  def _evaluate_few_shot(
    self, step: int, state: state_lib.State, metric_log: report.MetricLog
  ) -> dict[str, float]:
    metrics = few_shot_scoring.means(self.few_shot.score(_weights(state)))
    metric_log.write(step, metrics)
    return metrics

  def _best(self, metric_log: report.MetricLog) -> tuple[int, float] | None:
    name = self.config.best_metric
    return metric_log.best(name) if name else None

  def _export(self, state: state_lib.State, name: str) -> None:
    weights = processes.fetch(_weights(state))
    if processes.is_first():
      checkpoints.export(weights, self.workdir / name)

  def finish(
    self, state: state_lib.State, metric_log: report.MetricLog
  ) -> None:
    """Evaluates the last step and writes what stays of the run."""
    metrics, predictions = self._evaluate(self.total_steps, state, metric_log)
    if self.few_shot:
      metrics = metrics | self._evaluate_few_shot(
        self.total_steps, state, metric_log
      )
    self._export(state, 'final.npz')
    if best := self._best(metric_log):
      name = f'best/{self.config.best_metric}'
      metrics = metrics | {'best/step': best[0], name: best[1]}
    for name, predicted in predictions.items():
      report.write_predictions(
        self.workdir / f'predictions_{name}.jsonl',
        predicted,
        self.data.class_names,
        self.data.evals[name].describe,
      )
    report.write_json(
      self.workdir / report.RESULTS, self._results(metrics, predictions)
    )
    _log.info('finished; results in %s', self.workdir / report.RESULTS)

  def _results(
    self, metrics: dict[str, float], predictions: scoring.Predictions
  ) -> dict[str, Any]:
    seconds = self.seconds
    names = self.data.class_names
    return {
      'job': self.config.job,
      'step': self.total_steps,
      'seconds': seconds,
      **report.device_use(seconds),
      'parameters': int(
        parameter_overview.count_parameters(self.state_shapes.params)
      ),
      'metrics': metrics,
      'class_names': names,
      'class_accuracy': {
        split: dict(
          zip(names, predicted.class_accuracy(len(names)), strict=True)
        )
        for split, predicted in predictions.items()
      },
    }


def _weights(state: state_lib.State) -> PyTree:
  """What the run stands for: the average where one is kept."""
  return state.params if state.ema_params is None else state.ema_params
