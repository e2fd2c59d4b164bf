"""Labels mean the same in a checkpoint and in data, by the names of classes."""

import json
import pathlib
import shutil

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main
import weights

SIZE = weights.IMAGE_SIZE
CLASSES = ('ant', 'bee', 'cat', 'dog')
ORDER = [2, 0, 3, 1]  # The classes of the checkpoints: cat, ant, dog, bee.
NUMBERS = list(map(str, range(12)))
FORMS = ('npz', 'huggingface', 'timm', 'label_names')


@pytest.fixture(scope='module')
def model():
  return weights.tiny(num_classes=len(CLASSES))


@pytest.fixture(scope='module')
def params(model):
  return weights.random_params(model)


def logits_of_noise(model, params, count):
  """Returns random images (n, h, w, 3) uint8, and their logits."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, *SIZE, 3), np.uint8)
  inputs = images / np.float32(127.5) - 1
  return images, weights.logits_of(model, params, inputs)


def write_photos(folder, images, labels, names):
  for i, (image, label) in enumerate(zip(images, labels, strict=True)):
    path = folder / names[label] / f'{i}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope='module')
def photos(model, params, tmp_path_factory):
  """A folder of photos, their logits in the order of CLASSES, and labels."""
  images, logits = logits_of_noise(model, params, 24)
  labels = np.arange(24) % 4
  labels[::2] = logits[::2].argmax(axis=1)
  folder = tmp_path_factory.mktemp('data') / 'photos'
  write_photos(folder, images, labels, CLASSES)
  assert 0.5 <= np.mean(logits.argmax(axis=1) == labels) < 1
  return folder, logits, labels


@pytest.fixture(scope='module')
def forms(params, tmp_path_factory):
  """Paths of the checkpoint in formats that store names, classes in ORDER."""
  folder = tmp_path_factory.mktemp('weights')
  head = {name: value[..., ORDER] for name, value in params['head'].items()}
  shuffled = {**params, 'head': head}
  names = [CLASSES[k] for k in ORDER]
  paths = {
    'npz': folder / 'run' / 'final.npz',
    'huggingface': folder / 'huggingface',
    'timm': folder / 'timm' / 'model.safetensors',
    'label_names': folder / 'label_names' / 'model.safetensors',
  }
  checkpoints.export(shuffled, paths['npz'])
  path = paths['npz'].with_name('results.json')
  path.write_text(json.dumps({'class_names': names}))
  settings = {'image_size': SIZE, 'gelu': 'tanh', 'norm_eps': 1e-6}
  for form in ('huggingface', 'timm'):
    checkpoints.export(
      shuffled, paths[form], format=form, class_names=names, **settings
    )
  checkpoints.export(shuffled, paths['label_names'], format='timm', **settings)
  arguments = {'act_layer': 'gelu_tanh', 'num_heads': 3}
  path = paths['label_names'].with_name('config.json')
  path.write_text(json.dumps({'label_names': names, 'model_args': arguments}))
  return paths


def evaluation(checkpoint, folder, **values):
  config = runs.load_config('evaluate', f',folder:{folder}')
  height, width = SIZE
  return runs.override(
    config,
    init_from=str(checkpoint),
    data__eval='test=train+test',
    data__image_size=height,
    data__image_width=width,
    batch_size=24,
    **values,
  )


@pytest.mark.parametrize('form', FORMS)
def test_the_order_of_classes_does_not_matter(form, forms, photos, tmp_path):
  folder, logits, labels = photos
  results = runs.run(evaluation(forms[form], folder), tmp_path)
  expected = np.mean(logits.argmax(axis=1) == labels)
  assert results['metrics']['test/accuracy'] == expected
  path = tmp_path / 'predictions_test.jsonl'
  for line in map(json.loads, path.read_text().splitlines()):
    example = pathlib.Path(line['example'])
    assert line['label'] == example.parent.name
    predicted = logits[int(example.stem)].argmax()
    assert line['predicted'] == CLASSES[predicted]
  hits = logits.argmax(axis=1) == labels
  assert results['class_accuracy']['test'] == {
    name: hits[labels == k].mean() for k, name in enumerate(CLASSES)
  }


@pytest.mark.parametrize('restricted', [False, True])
def test_some_of_the_classes(restricted, forms, photos, tmp_path):
  folder, logits, labels = photos
  for name in ('bee', 'cat'):
    shutil.copytree(folder / name, tmp_path / 'some' / name)
  config = evaluation(forms['npz'], tmp_path / 'some')
  config.evaluate.restricted = restricted
  results = runs.run(config, tmp_path / 'run')
  kept = (labels == 1) | (labels == 2)
  chosen = 1 + logits[:, 1:3].argmax(1) if restricted else logits.argmax(1)
  assert results['metrics']['test/accuracy'] == np.mean(
    (chosen == labels)[kept]
  )
  assert results['num_examples'] == {'test': kept.sum()}


def test_an_unknown_class_is_named(forms, photos, tmp_path):
  shutil.copytree(photos[0], tmp_path / 'photos')
  (tmp_path / 'photos' / 'cat').rename(tmp_path / 'photos' / 'tiger')
  config = evaluation(forms['huggingface'], tmp_path / 'photos')
  with pytest.raises(ValueError, match="lacks 1 of .*: 'tiger'; .* 'cat'"):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_checkpoints_of_other_orders_are_not_averaged(params, forms, tmp_path):
  checkpoints.export(params, tmp_path / 'sorted' / 'final.npz')
  path = tmp_path / 'sorted' / 'results.json'
  path.write_text(json.dumps({'class_names': CLASSES}))
  paths = f'{forms["npz"]},{tmp_path / "sorted" / "final.npz"}'
  config = runs.load_config('interpolate', paths)
  config.data.update(image_size=SIZE[0], image_width=SIZE[1])
  with pytest.raises(ValueError, match="class 0 is 'cat' in .* but 'ant' in"):
    main.run(config, tmp_path / 'run')


def test_names_for_predictions_have_the_order_of_labels(
  forms, photos, tmp_path
):
  (tmp_path / 'names.txt').write_text('\n'.join(CLASSES))
  config = runs.load_config('predict', str(photos[0]))
  config.init_from = str(forms['npz'])
  config.data.update(image_size=SIZE[0], image_width=SIZE[1])
  config.predict.class_names = str(tmp_path / 'names.txt')
  with pytest.raises(ValueError, match='lists the classes of .* another order'):
    main.run(config, tmp_path / 'run')


def test_folders_of_numbers_are_labels(tmp_path, caplog):
  model = weights.tiny(num_classes=12)
  params = weights.random_params(model)
  _, logits = logits_of_noise(model, params, 200)
  params['head']['bias'] -= logits.mean(axis=0)  # No class is preferred.
  images, logits = logits_of_noise(model, params, 200)
  checkpoints.export(params, tmp_path / 'weights' / 'tiny.npz')
  chosen, first = np.unique(logits.argmax(axis=1), return_index=True)
  rows = np.arange(12)
  rows[chosen] = first
  write_photos(tmp_path / 'photos', images[rows], np.arange(12), NUMBERS)
  config = evaluation(tmp_path / 'weights' / 'tiny.npz', tmp_path / 'photos')
  caplog.set_level('INFO', logger='vit_jax')
  results = runs.run(config, tmp_path / 'run')
  assert 'are numbers, taken as labels of' in caplog.text
  correct = logits[rows].argmax(axis=1) == np.arange(12)
  assert len(chosen) > 3
  assert results['metrics']['test/accuracy'] == np.mean(correct)
  assert results['class_names'] == NUMBERS
  accuracies = dict(zip(NUMBERS, correct, strict=True))
  assert results['class_accuracy']['test'] == accuracies


def test_case_hf_perm(tmp_path):
  """Evaluation counts as many correct photos as prediction does: 134."""
  case = runs.SHARED / 'cases' / 'hf_perm'
  flowers = runs.SHARED / 'data' / 'flowers12' / 'train'
  if not case.exists():
    pytest.skip('needs ../shared/cases')
  for name in ('bluebell', 'buttercup', 'colts-foot'):
    (tmp_path / 'photos').mkdir(exist_ok=True)
    (tmp_path / 'photos' / name).symlink_to(flowers / name)
  config = runs.load_config('evaluate', f',folder:{tmp_path / "photos"}')
  runs.override(config, init_from=str(case), data__eval='test=train+test')
  results = runs.run(config, tmp_path / 'run')
  assert results['num_examples'] == {'test': 180}
  assert results['metrics']['test/accuracy'] == 134 / 180


@pytest.fixture(scope='module')
def kept_head(forms, photos, tmp_path_factory):
  """A run that starts from the weights with their head and learns nothing."""
  folder = tmp_path_factory.mktemp('kept')
  shutil.copytree(photos[0], folder / 'photos')
  config = evaluation(forms['npz'], folder / 'photos')
  runs.override(
    config,
    job='finetune',
    loss='softmax',
    data__eval_crop='resize',
    data__eval_interpolation='bilinear',
    model__name='ViT-Ti/8',
    **{f'model__{key}': value for key, value in weights.SIZES.items()},
    init_head='keep',
    total_steps=2,
    checkpoint_every=1,
    optim__lr=0.0,
    optim__warmup_steps=0,
  )
  return config, runs.run(config, folder / 'run'), folder


def test_a_kept_head_keeps_its_classes(kept_head, photos, tmp_path):
  _, results, folder = kept_head
  _, logits, labels = photos
  expected = np.mean(logits.argmax(axis=1) == labels)
  assert results['metrics']['test/accuracy'] == expected
  names = [CLASSES[k] for k in ORDER]
  assert results['class_names'] == names
  # A run in progress has the names as well.
  shutil.copytree(folder / 'run', tmp_path / 'run')
  (tmp_path / 'run' / 'results.json').unlink()
  _, description = checkpoints.load_with_description(tmp_path / 'run')
  assert description.class_names == tuple(names)


def add(folder):
  shutil.copy(folder / 'cat' / '2.png', folder / 'cat' / '2 (copy).png')


CHANGES = {
  'renamed': (
    lambda folder: (folder / 'cat').rename(folder / 'tiger'),
    "classes: 'cat'.*'tiger'",
  ),
  'added': (add, r"\d -> \d images of 'cat'"),
  'removed': (
    lambda folder: next((folder / 'ant').iterdir()).unlink(),
    r"\d -> \d images of 'ant'",
  ),
}


@pytest.mark.parametrize('change', CHANGES)
def test_a_run_resumes_only_on_its_data(change, kept_head, tmp_path):
  config, _, folder = kept_head
  shutil.copytree(folder / 'run', tmp_path / 'run')
  (tmp_path / 'run' / 'results.json').unlink()
  change, message = CHANGES[change]
  backup = shutil.move(folder / 'photos', tmp_path / 'backup')
  try:
    shutil.copytree(backup, folder / 'photos')
    change(folder / 'photos')
    with pytest.raises(ValueError, match=f'different data: .*{message}'):
      main.run(config, tmp_path / 'run')
  finally:
    shutil.rmtree(folder / 'photos')
    shutil.move(backup, folder / 'photos')
  assert not (tmp_path / 'run' / 'results.json').exists()


def test_unchanged_data_and_runs_without_a_record_resume(kept_head, tmp_path):
  config, before, folder = kept_head
  shutil.copytree(folder / 'run', tmp_path / 'run')
  for name in ('results.json', 'data.json'):
    record = (tmp_path / 'run' / 'data.json').read_text()
    (tmp_path / 'run' / name).unlink()
    (tmp_path / 'run' / 'results.json').unlink(missing_ok=True)
    after = runs.run(config, tmp_path / 'run')
    assert after['metrics'] == before['metrics']
    assert (tmp_path / 'run' / 'data.json').read_text() == record
