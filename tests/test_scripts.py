"""The scripts for Cloud TPUs: lint, dry runs, and scripts for the workers."""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

import runs

FOLDER = runs.ROOT / 'scripts' / 'tpu'
ON_WORKERS = {'start_here', 'status_here'}
SCRIPTS = sorted(path.stem for path in FOLDER.glob('*.sh'))
RUN = ['--', '--config=configs/vit_l16.py', '--workdir=gs://b/my run']
ARGUMENTS = {
  'create': ['slice', 'v5litepod-16', '--spot'],
  'launch': ['slice', *RUN],
  'keep_running': ['slice', 'v4-32', '--spot', *RUN],
  'watch': ['slice', '--worker=3'],
}


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='needs shellcheck')
def test_shellcheck_finds_nothing():
  subprocess.run(
    ['shellcheck', '-x', '-P', 'SCRIPTDIR', *FOLDER.glob('*.sh')], check=True
  )


def executable(path, text):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(f'#!/bin/bash\n{text}\n')
  path.chmod(0o755)
  return path


def script(name, *arguments, path=None, **kwargs):
  folders = [str(path), os.environ['PATH']] if path else [os.environ['PATH']]
  return subprocess.run(
    ['bash', FOLDER / f'{name}.sh', *arguments],
    env=os.environ | {'PATH': ':'.join(folders), 'TPU_ZONE': 'zone-a'},
    capture_output=True,
    text=True,
    timeout=60,
    **kwargs,
  )


@pytest.mark.parametrize('name', sorted(set(SCRIPTS) - ON_WORKERS - {'common'}))
def test_dry_runs_only_print_commands(name, tmp_path):
  called = tmp_path / 'called'
  for program in ('gcloud', 'ssh', 'scp', 'sleep'):
    executable(tmp_path / 'bin' / program, f'echo {program} >> {called}')
  first, *others = ARGUMENTS.get(name, ['slice'])
  done = script(name, first, '--dry-run', *others, path=tmp_path / 'bin')
  assert done.returncode == 0, done.stderr
  assert not called.exists()
  commands = [line for line in done.stdout.splitlines() if line[0] != '#']
  assert commands
  for command in commands:
    assert command.startswith('gcloud compute tpus ')
    assert '--zone=zone-a' in command
  # An unknown option is an error with the usage.
  wrong = script(name, '--dry-run', '--zne=x', *others)
  assert wrong.returncode == 1
  assert f'unknown option --zne=x; usage: {name}.sh NAME' in wrong.stderr


def test_arguments_reach_the_workers_unchanged():
  done = script('launch', 'slice', '--dry-run', *RUN)
  # Quoted twice: for the local shell and for the worker's.
  printed = subprocess.run(
    ['bash', '-c', f'printf "%s\\n" {done.stdout}'],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  (command,) = [
    line for line in printed.splitlines() if line.startswith('--command=')
  ]
  received = subprocess.run(
    ['bash', '-c', f'printf "%s\\n" {command.removeprefix("--command=")}'],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert received.splitlines()[-2:] == RUN[1:]


def test_vm_image_depends_on_the_type():
  for kind, image in {
    'v3-8': 'tpu-ubuntu2204-base',
    'v5litepod-4': 'v2-alpha-tpuv5-lite',
    'v5p-8': 'v2-alpha-tpuv5',
    'v6e-4': 'v2-alpha-tpuv6e',
  }.items():
    printed = script('create', 'slice', kind, '--dry-run').stdout
    assert f'--runtime-version={image} ' in printed


@pytest.fixture
def worker(tmp_path):
  """A folder as `install.sh` leaves it, with a fake Python."""
  shutil.copytree(FOLDER, tmp_path / 'scripts' / 'tpu')
  executable(
    tmp_path / '.venv' / 'bin' / 'python',
    'trap "echo stopped; exit 0" TERM; echo "$@";'
    ' for i in {1..600}; do sleep 0.1; done; exit 7',
  )
  return tmp_path


def on_worker(folder, name, *arguments):
  return subprocess.run(
    ['bash', folder / 'scripts' / 'tpu' / name, *arguments],
    capture_output=True,
    text=True,
    timeout=60,
  )


def wait_for(condition):
  deadline = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def test_worker_starts_reports_and_stops(worker):
  def status():
    return on_worker(worker, 'status_here.sh').stdout.strip()

  assert status() == 'absent'
  assert on_worker(worker, 'start_here.sh', '--config=a b').returncode == 0
  log = worker / 'run.log'
  wait_for(lambda: log.exists() and log.read_text())
  assert log.read_text() == '-m vit_jax.main --config=a b\n'
  assert status() == 'running'
  again = on_worker(worker, 'start_here.sh', '--config=c')
  assert again.returncode == 1
  assert 'a run is already in progress' in again.stderr
  assert 'c' not in log.read_text().split('=')

  # Run the command that stop.sh sends to the worker.
  printed = script('stop', 'slice', '--dry-run').stdout
  command = printed.partition('--command=')[2].replace('\\', '').strip()
  (worker / 'vit_jax').symlink_to(worker)
  subprocess.run(['bash', '-c', command], cwd=worker, check=True)
  wait_for((worker / 'run.exit').exists)
  wait_for(lambda: (worker / 'run.exit').read_text())
  assert status() == 'ended 0'
  assert 'stopped' in log.read_text()


GCLOUD = """
cd {folder}
echo "$*" >> calls
next() {{ head -n 1 "$1"; sed -i 1d "$1"; }}
case "$*" in
  'storage ls'*) [[ ! -s states ]] ;;
  *' describe '*) state=$(next states); [[ $state != NONE ]] && echo "$state" ;;
  *status_here.sh*) next statuses ;;
esac
"""


def test_run_survives_preemptions(tmp_path):
  executable(tmp_path / 'bin' / 'gcloud', GCLOUD.format(folder=tmp_path))
  executable(tmp_path / 'bin' / 'sleep', '')
  story = [
    ('NONE', None),  # There is no TPU yet: one is created.
    ('WAITING_FOR_RESOURCES', None),
    ('ACTIVE', None),
    ('ACTIVE', 'absent'),
    ('ACTIVE', 'running'),
    ('SUSPENDED', None),  # It is preempted,
    ('NONE', None),  # and created again.
    ('ACTIVE', None),
    ('ACTIVE', 'absent'),
    ('ACTIVE', 'ended 1'),  # The run fails,
    ('ACTIVE', None),  # although the TPU is active,
    ('ACTIVE', 'running'),  # and is launched again.
  ]
  states = [state for state, _ in story]
  statuses = [status for _, status in story if status]
  (tmp_path / 'states').write_text('\n'.join(states) + '\n')
  (tmp_path / 'statuses').write_text('\n'.join(statuses) + '\n')
  done = script(
    'keep_running', *ARGUMENTS['keep_running'], path=tmp_path / 'bin'
  )
  assert done.returncode == 0, done.stderr
  assert 'finished: gs://b/my run/results.json' in done.stdout
  calls = (tmp_path / 'calls').read_text().splitlines()
  acts = []
  for call in calls:
    words = call.split()
    for act in ('create', 'delete', 'scp'):
      if act in words[:5]:
        acts.append(act)
    if 'start_here.sh' in call:
      acts.append('start')
  launch = ['scp', 'start']
  assert acts == [
    *['create', *launch],
    *['delete', 'create', *launch, *launch],
    'delete',
  ]
  assert not pathlib.Path(tmp_path / 'states').read_text()
