"""Every sentence of the table of faults in docs/cloud.md has tests."""

import ast
import itertools
import re

import pytest

import runs

FAULTS = 'tests/test_faults.py'
PROCESSES = 'tests/test_processes.py'
MANY_PROCESSES = 'tests/slow/test_many_processes.py'
RESUME = 'tests/test_resume.py'
RANDOM = 'tests/slow/test_random_signals.py'
INTERRUPT = 'tests/distributed/test_interrupt.py'
DECODE = 'tests/data/test_decode.py'
PIPELINE = 'tests/data/test_pipeline.py'
STORE = 'tests/checkpoints/test_store.py'
BACKLOG = 'tests/checkpoints/test_backlog.py'
APPENDED = 'tests/workdir/test_appended_file.py'
LOCK = 'tests/workdir/test_lock.py'
FULL_DISK = 'tests/slow/test_full_disk.py'
STOPPED_AND_KILLED = (
  f'{PROCESSES}::test_stopped_and_killed_runs_end_like_an_undisturbed_one'
)
SIGNALS = f'{RESUME}::test_sigterm_and_ctrl_c_save_the_step'
KEPT_PROGRAMS = (
  'tests/test_main.py::test_compiled_programs_are_kept_in_the_cache_of_the_user'
)

# Tests of each sentence, or part of one, by the event.
TESTS = {
  'any process receives SIGTERM or a preemption notice while training': {
    'all processes save a checkpoint at the same step and exit with code 0': (
      STOPPED_AND_KILLED,
      SIGNALS,
    ),
    'the same command resumes from it': (
      STOPPED_AND_KILLED,
      SIGNALS,
      f'{RANDOM}::test_runs_end_like_an_undisturbed_one',
    ),
  },
  'Ctrl-C (SIGINT) while training': {
    'with several processes, the same': (
      f'{MANY_PROCESSES}::test_ctrl_c_in_one_process_stops_all',
    ),
    'a single one saves a checkpoint and exits with code 130': (SIGNALS,),
    'The last line of output is the command that resumes the run': (SIGNALS,),
  },
  'Ctrl-C at any other time, or twice': {
    'the process exits at once, with code 130 and the command that continues'
    ' the job': (
      f'{INTERRUPT}::test_ends_in_one_line',
      f'{RANDOM}::test_ctrl_c_in_other_jobs_is_one_line',
    ),
  },
  'a process is killed, or its host is lost': {
    'the other processes exit: on CPUs immediately, on TPUs and GPUs after at'
    ' most `distributed.heartbeat_timeout` (100 s)': (
      STOPPED_AND_KILLED,
      f'{MANY_PROCESSES}::test_the_end_of_the_first_process_ends_the_others',
      f'{MANY_PROCESSES}::test_a_process_without_heartbeat_ends_the_others',
    ),
    'the same command resumes from the last checkpoint': (STOPPED_AND_KILLED,),
  },
  'an error in one process': {
    'it prints the error and exits immediately, without waiting for the others,'
    ' which exit as above': (
      f'{MANY_PROCESSES}::test_an_error_in_one_process_ends_all',
    ),
  },
  'some processes do not start': {
    'after `distributed.start_timeout` (300 s), the others print what they'
    ' waited for, and exit': (
      f'{PROCESSES}::test_missing_processes_are_reported',
    ),
  },
  'the loss, another metric or a weight is not finite': {
    'the run stops and reports the step and the metric or the weights': (
      f'{FAULTS}::test_divergence_stops_the_run_and_leaves_a_good_checkpoint',
      f'{FAULTS}::test_weights_that_are_not_finite_are_not_saved',
    ),
    'its checkpoints are from earlier steps': (
      f'{FAULTS}::test_divergence_stops_the_run_and_leaves_a_good_checkpoint',
      f'{FAULTS}::test_weights_that_are_not_finite_are_not_saved',
    ),
  },
  'the folder of compiled programs cannot be written': {
    'a warning': (KEPT_PROGRAMS,),
    'every run compiles its programs again': (KEPT_PROGRAMS,),
  },
  'the disk is full': {
    'a warning, at most every 10 minutes, names the file and its size, and the'
    ' run continues': (
      f'{BACKLOG}::test_a_run_writes_again_and_warns_once',
      f'{FAULTS}::test_once_there_is_room_the_next_save_succeeds',
    ),
    'older checkpoints are kept, and all other files, such as metrics and'
    ' pictures, stay in memory and are written later': (
      f'{FAULTS}::test_a_full_disk_fails_saves_and_keeps_earlier_ones',
      f'{BACKLOG}::test_a_run_writes_again_and_warns_once',
      f'{APPENDED}::test_metrics_and_events_survive_a_full_disk',
    ),
    'If there is enough space by the end of the run, its results are the same'
    ' as without the fault': (
      f'{FAULTS}::test_once_there_is_room_the_next_save_succeeds',
      f'{FULL_DISK}::test_a_disk_that_is_freed_in_time_changes_nothing',
    ),
    'It ends with an error only if the last attempt fails or, with several'
    ' processes, if any checkpoint fails': (
      f'{FAULTS}::test_a_full_disk_fails_saves_and_keeps_earlier_ones',
      f'{BACKLOG}::test_the_end_of_a_run_needs_room',
      f'{MANY_PROCESSES}::test_a_full_disk_ends_all_processes',
    ),
    'the same command resumes': (
      f'{FAULTS}::test_a_full_disk_fails_saves_and_keeps_earlier_ones',
      f'{FULL_DISK}::test_a_disk_that_stays_full_is_one_error',
    ),
  },
  'a run is started in the work directory of another one': {
    'the command fails, names the host and the process of the other run, and'
    ' changes no file': (
      f'{LOCK}::test_the_command_fails_at_once_and_touches_nothing',
    ),
    'the lock of a killed run is released at once': (
      f'{LOCK}::test_the_kernel_releases_the_lock_of_a_killed_run',
    ),
  },
  'the same on gs://, or on a file system without `flock`': {
    'the first run renews its lock every 5 seconds': (
      f'{LOCK}::test_without_flock_the_lock_is_renewed',
    ),
    'the second one waits until it sees this, and fails': (
      f'{LOCK}::test_without_flock_a_renewed_lock_is_respected',
    ),
    'If the first one was killed, the second one waits 60 seconds, or not at'
    ' all on the same host, and then starts': (
      f'{LOCK}::test_without_flock_a_lock_that_is_not_renewed_is_stale',
      f'{LOCK}::test_without_flock_a_dead_process_of_this_host_holds_nothing',
    ),
  },
  'a file cannot be read': {
    'the error names the file and the record': (
      f'{FAULTS}::test_bad_images_stop_the_run_or_are_counted',
      f'{PIPELINE}::test_broken_file_is_named_in_training',
      f'{PIPELINE}::test_damaged_tfrecord_file_is_named',
    ),
    'With `data.skip_corrupt=true`, the example is treated as missing and'
    ' counted in `train/skipped`, and no other example changes its position': (
      f'{FAULTS}::test_bad_images_stop_the_run_or_are_counted',
      f'{PIPELINE}::test_corrupt_examples_are_skipped_and_named',
    ),
    'A batch in which no example can be read changes neither weights nor'
    ' optimizer': (
      'tests/training/test_steps.py::test_a_step_without_examples_only_counts',
      'tests/slow/test_malformed_images.py'
      '::test_batches_without_images_are_skipped',
    ),
    'Files that are not images, and images of more than `data.max_pixels`, are'
    ' never decoded': (
      f'{DECODE}::test_size_in_the_header_is_checked_before_decoding',
      f'{DECODE}::test_other_files_are_not_images',
      'tests/data/test_folder.py'
      '::test_files_that_are_not_images_are_named_or_skipped',
    ),
  },
  'the data has changed since the run began': {
    'the command fails and lists the changes': (
      'tests/jobs/test_labels.py::test_a_run_resumes_only_on_its_data',
      'tests/workdir/test_data_record.py::test_changes_of_folders',
    ),
  },
  'a checkpoint is damaged': {
    'it is renamed, and the run resumes from the previous one, with a'
    ' warning': (
      f'{RESUME}::test_damaged_newest_checkpoint_is_skipped',
      f'{STORE}::test_damaged_checkpoint_falls_back_to_the_previous_one',
    ),
  },
}


def sentences():
  """The parts of the consequences in docs/cloud.md, by the event."""
  text = (runs.ROOT / 'docs' / 'cloud.md').read_text()
  table = text.partition('## When something fails')[2]
  rows = re.findall(r'^\| (.*) \| (.*) \|$', table, re.M)
  assert rows[0] == ('event', 'consequence')
  return {event: re.split(r'[.;] ', parts) for event, parts in rows[1:]}


def test_every_sentence_has_tests():
  assert {event: list(parts) for event, parts in TESTS.items()} == sentences()
  assert all(tests for parts in TESTS.values() for tests in parts.values())


@pytest.mark.parametrize('event', TESTS)
def test_the_tests_exist(event):
  for name in itertools.chain.from_iterable(TESTS[event].values()):
    path, _, function = name.partition('::')
    tree = ast.parse((runs.ROOT / path).read_text())
    assert function in {getattr(node, 'name', None) for node in tree.body}, name
