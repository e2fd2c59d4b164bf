"""The config keys that one job alone reads."""

from vit_jax.config.key import Key

JOB_KEYS = {
  'vtab.tasks': Key(
    '', 'Tasks of VTAB to run, separated by commas; empty: all 19.'
  ),
  'vtab.skip_missing': Key(
    False, 'Whether to leave out tasks whose data is absent.', on_resume=True
  ),
  'vtab.keep_weights': Key(
    False, 'Whether final.npz of every run stays.', on_resume=True
  ),
  'study.points': Key(
    '',
    'What a study or data study compares, separated by ;, each NAME (FAMILY):'
    ' and the KEY=VALUE pairs that it changes; empty: what sweep.grid and'
    ' sweep.also list.',
    on_resume=True,
  ),
  'study.collect': Key(
    '',
    'Workdirs of finished runs of sweep.job, or folders of such, separated by'
    ' commas, that join the points; those that differ in their seed alone are'
    ' one.',
    on_resume=True,
  ),
  'study.finetune': Key(
    '',
    'What the runs of a study are fine-tuned on, [NAME=]DATASET separated by'
    ' commas, such as cifar10,folder:PHOTOS; as Table 4 has it.',
  ),
  'study.finetune_keys': Key(
    '', 'KEY=VALUE pairs that this fine-tuning changes, separated by blanks.'
  ),
  'study.metrics': Key(
    '',
    'Metrics to draw, separated by commas, such as finetune/mean/accuracy,'
    'test/accuracy; empty: the first of the table.',
    on_resume=True,
  ),
  'study.across': Key(
    'exaflops',
    'What accuracy is drawn against: exaflops; relative, to the first point;'
    ' core_days; examples; step, along the runs; name, of the point.',
    choices=(
      'exaflops',
      'relative',
      'core_days',
      'examples',
      'step',
      'name',
    ),
    on_resume=True,
  ),
  'data_study.sizes': Key(
    '',
    'Numbers of examples to train on, separated by commas, 0 for all; those of'
    ' a size are among those of a larger one. Empty: data.subset.',
    on_resume=True,
  ),
  'plan.job': Key(
    'pretrain',
    'The job whose training step is planned.',
    choices=('pretrain', 'finetune', 'masked_patch'),
  ),
  'plan.topologies': Key(
    'v3:2x2',
    'TPU slices, GENERATION:CHIPS separated by commas, such as'
    ' v3:2x2,v3:4x4,v5e:2x4,v4:2x2x2.',
  ),
  'plan.models': Key('', 'Models, separated by commas; empty: model.name.'),
  'plan.batch_sizes': Key(
    '', 'Global batch sizes, separated by commas; empty: batch_size.'
  ),
  'plan.fit': Key(
    'accumulate',
    'What to change if a step does not fit: none; accumulate, doubles the'
    ' micro-batches; largest, halves the batch.',
    choices=('none', 'accumulate', 'largest'),
  ),
  'plan.utilisation': Key(
    0.5,
    "Share of the slice's peak for which times are given.",
    low=0.01,
    high=1,
  ),
  'inference.models': Key(
    '', 'Models, separated by commas; empty: model.name.'
  ),
  'inference.image_sizes': Key(
    '', 'Sides of images in px, separated by commas; empty: data.image_size.'
  ),
  'inference.largest_batch': Key(
    2**16, 'No batch with more images is tried.', low=1
  ),
  'inference.cpu_memory': Key(
    16.0,
    'GiB that a batch may need on a CPU, which has no memory of its own; a core'
    " of the paper's TPUv3 has 16.",
    low=0.001,
  ),
  'inference.repetitions': Key(10, 'Timings of a batch size.', low=3),
  'inference.seconds': Key(
    10.0,
    'Seconds that they may take; then three suffice, and if even these take'
    ' longer, a CPU times no larger batches.',
    low=0,
  ),
  'prepare.datasets': Key(
    'vtab',
    'What TFDS is to download and prepare, separated by commas: vtab for all of'
    ' its tasks, vtab:TASK, tfds:BUILDER or catalogue names.',
  ),
  'evaluate.real_json': Key(
    '',
    "ReaL's published real.json, to score ImageNet's validation images by its"
    ' labels too; empty: none.',
  ),
  'evaluate.objectnet_mappings': Key(
    '',
    "ObjectNet's folder of mapping files, to score its images with a model of"
    " ImageNet's classes; empty: the data is not ObjectNet.",
  ),
  'evaluate.objectnet_restricted': Key(
    False, "Whether a model chooses among ObjectNet's classes alone."
  ),
  'few_shot.every': Key(
    0,
    'Steps between few-shot evaluations of a training run, which then also ends'
    ' with one; 0: none.',
    low=0,
  ),
  'few_shot.datasets': Key(
    '',
    'What few-shot evaluations are of, [METRIC_NAME=]DATASET[|TRAIN|TEST],'
    ' separated by commas, such as caltech101,folder:PATH,digits|train|test;'
    ' DATASET as for data.name, and the splits to learn from and to test on.',
  ),
  'few_shot.shots': Key(
    '1,5,10,25', 'Examples of a class to learn from, separated by commas.'
  ),
  'few_shot.seeds': Key(
    3, 'Draws of these examples; the same ones for every model.', low=1
  ),
  'few_shot.l2': Key(
    1024.0, 'Weight of the regulariser of the least squares.', low=1e-6
  ),
  'interpolate.paths': Key(
    '', 'Checkpoints of one shape, separated by commas.'
  ),
  'interpolate.alphas': Key(
    '',
    'Where to look on the line from the first to the second, such as 0,0.5,1;'
    ' empty: at the mean of all.',
  ),
  'predict.paths': Key(
    '', 'Image files, and folders of such at any depth, separated by commas.'
  ),
  'predict.top': Key(5, 'How many classes to name for an image.', low=1),
  'predict.class_names': Key(
    '',
    'File of class names, a line each, or JSON: a list, {INDEX: NAME} or'
    ' {INDEX: [WORDNET_ID, NAME]}; empty: those of the checkpoint.',
  ),
  'inspect.paths': Key(
    '',
    'Image files, and folders of such, to draw attention on, separated by'
    ' commas; empty: images of the split.',
  ),
  'inspect.num_images': Key(
    128,
    'Images of the split over which attention is averaged, evenly spread; 0:'
    ' those of inspect.paths alone.',
    low=0,
  ),
  'inspect.pictures': Key(
    8, 'Of how many images to draw attention, at most.', low=1
  ),
  'inspect.renormalise': Key(
    False,
    'Whether attention distances leave the class token out of the sum; the'
    " paper's figure counts it as distance 0.",
  ),
  'report.runs': Key(
    '', 'Workdirs of finished runs to write pages of, separated by commas.'
  ),
  'dedup.against': Key(
    '',
    'Test splits whose images are looked for in data.train of data.name,'
    ' DATASET=SPLIT separated by commas, such as cifar10=test.',
  ),
  'dedup.threshold': Key(
    0.92,
    'Similarity from which on images are near-duplicates.',
    low=0.5,
    high=1,
  ),
  'dedup.pictures': Key(
    60, 'How many pairs to draw, the least similar ones.', low=1
  ),
}
