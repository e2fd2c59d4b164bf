"""Config keys that single jobs read."""

from vit_jax.config.key import Adjustable, Key, Reporting
from vit_jax.data.preparation import merge
from vit_jax.evaluation import representations
from vit_jax.runtimes import RUNTIMES
from vit_jax.training import patch_targets

_MAX_REPEATS = 1000
_MAX_WORKERS = 1000
_MAX_NEIGHBOURS = 1000

JOB_KEYS = {
  'masked_patch.target': Key(
    'mean_colour',
    'Prediction for a corrupted patch: mean_colour, one of 512; downsized, 4x4'
    ' such colours; pixels, by regression.',
    choices=patch_targets.TARGETS,
  ),
  'masked_patch.rate': Key(
    0.5,
    'Share of patches to corrupt: 80 % of them masked, 10 % replaced by other'
    ' patches, 10 % kept.',
    low=0,
    high=1,
  ),
  'masked_patch.picture_every': Reporting(
    0, 'Steps between pictures of predictions; 0: only at the end.', low=0
  ),
  'sweep.job': Key(
    'finetune',
    'Job of the runs of a sweep or study.',
    choices=('finetune', 'pretrain'),
  ),
  'sweep.grid': Key(
    {},
    'Values to try, KEY=A|B|C separated by spaces; all combinations run.',
    form='axes',
  ),
  'sweep.also': Key(
    (), 'More settings to try, KEY=VALUE ...; KEY=VALUE ...', form='settings'
  ),
  'sweep.train': Key('train[:90%]', 'Training split while selecting.'),
  'sweep.val': Key('train[90%:]', 'Held-out split while selecting.'),
  'sweep.seeds': Key(
    3,
    'Runs of the selected setting, on all of data.train.',
    low=1,
    high=_MAX_REPEATS,
  ),
  'vtab.tasks': Key((), 'Tasks of VTAB to run; empty: all 19.'),
  'vtab.skip_missing': Adjustable(False, 'Whether to skip tasks without data.'),
  'vtab.keep_weights': Adjustable(
    False, 'Whether every run keeps its final.npz.'
  ),
  'study.points': Adjustable(
    {},
    'Points of a study or data study separated by semicolons, each a NAME'
    ' (FAMILY): and the KEY=VALUE pairs that it sets; empty: the settings of'
    ' sweep.grid and sweep.also.',
    form='points',
  ),
  'study.collect': Adjustable(
    (),
    'Workdirs of finished runs of sweep.job, or folders of them, to add as'
    ' points; runs that differ only in their seed make one point.',
  ),
  'study.finetune': Key(
    (),
    'Datasets to fine-tune the runs of a study on, as in Table 4, each'
    ' [METRIC_NAME=]DATASET, such as cifar10,folder:PHOTOS.',
  ),
  'study.finetune_sweep': Key(
    False,
    'Whether study.finetune selects the learning rate as in Appendix B.1.1, on'
    ' a held-out part of the training split, and for ResNets also tries the'
    ' BiT-HyperRule.',
  ),
  'study.real': Key(
    False,
    'Whether models fine-tuned on ImageNet are scored by their ReaL labels too,'
    " those of evaluate.real_json or else of TFDS's imagenet2012_real.",
  ),
  'study.finetune_keys': Key(
    {},
    'KEY=VALUE pairs that study.finetune sets, separated by spaces.',
    form='setting',
  ),
  'study.metrics': Adjustable(
    (),
    'Metrics to plot, such as finetune/mean/accuracy,test/accuracy; empty: the'
    ' first of the table.',
  ),
  'study.across': Adjustable(
    'exaflops',
    'Horizontal axis: exaflops; relative (exaflops, relative to the first'
    ' point); core_days; examples (size of the training set); step (curves over'
    ' training); name (of the point).',
    choices=('exaflops', 'relative', 'core_days', 'examples', 'step', 'name'),
  ),
  'data_study.sizes': Adjustable(
    (),
    'Numbers of training examples, 0 for all; smaller sets are subsets of'
    ' larger ones. Empty: data.subset.',
    items=int,
    low=0,
  ),
  'plan.job': Key(
    'pretrain',
    'Job whose training step is planned.',
    choices=('pretrain', 'finetune', 'masked_patch'),
  ),
  'plan.topologies': Key(
    ('v3:2x2',), 'TPU slices, GENERATION:CHIPS, such as v3:4x4,v4:2x2x2.'
  ),
  'plan.models': Key((), 'Models; empty: model.name.'),
  'plan.batch_sizes': Key(
    (), 'Global batch sizes; empty: batch_size.', items=int, low=1
  ),
  'plan.fit': Key(
    'accumulate',
    'What to change if a step does not fit: none; accumulate, doubles the'
    ' micro-batches; largest, halves the batch.',
    choices=('none', 'accumulate', 'largest'),
  ),
  'plan.utilisation': Key(
    0.5, "Share of the slice's peak for estimates of time.", low=0.01, high=1
  ),
  'inference.models': Key((), 'Models; empty: model.name.'),
  'inference.image_sizes': Key(
    (),
    'Sides of images in px; empty: data.image_size.',
    items=int,
    low=1,
    high=2**14,
  ),
  'inference.largest_batch': Key(2**16, 'Largest batch to try.', low=1),
  'inference.cpu_memory': Key(
    16.0,
    'Memory in GiB that a batch may take on a CPU; a TPUv3 core, as in the'
    ' paper, has 16.',
    low=0.001,
  ),
  'inference.repetitions': Key(
    10, 'Timings per batch size.', low=3, high=_MAX_REPEATS
  ),
  'inference.seconds': Key(
    10.0,
    'Seconds for the timings of a batch size. At least three are made; if these'
    ' take longer on a CPU, larger batches are not timed.',
    low=0,
  ),
  'prepare.datasets': Key(
    ('vtab',),
    'Datasets to download and prepare with TFDS: vtab for all of its tasks,'
    ' vtab:TASK, tfds:BUILDER or names in the catalog. Or KIND:PATH of your own'
    ' images; see configs/prepare.py.',
  ),
  'prepare.name': Key('', 'Name of the dataset to write from your own images.'),
  'prepare.workers': Adjustable(
    0,
    'Worker processes; 0: one for every CPU of this process.',
    low=0,
    high=_MAX_WORKERS,
  ),
  'prepare.shard_mib': Key(
    256, 'Largest mean size of the files of a split in MiB.', low=1
  ),
  'prepare.duplicates': Key(
    'first',
    'What to write of byte-identical images of a split: keep, all of them;'
    ' first, one with the label that comes first in the order of the classes;'
    ' all_labels, one with the labels of all, as multi-label data; drop, one if'
    ' all have the same labels, otherwise none.',
    choices=merge.DUPLICATES,
  ),
  'prepare.class_names': Key(
    '',
    'File of the names of all classes, in order, as in predict.class_names;'
    ' labels are names or positions in this file. Empty: the labels, sorted.',
  ),
  'evaluate.restricted': Key(
    False,
    'Whether the model chooses only among the classes of the data, if these are'
    ' some of its own.',
  ),
  'evaluate.real_json': Key(
    '',
    'Published real.json of ReaL, to score the ImageNet validation images by'
    ' its labels too; empty: none.',
  ),
  'evaluate.objectnet_mappings': Key(
    '',
    'Folder of mapping files of ObjectNet, to score its images with a model of'
    ' the ImageNet classes; empty: the data is not ObjectNet.',
  ),
  'evaluate.objectnet_restricted': Key(
    False, 'Whether the model chooses only among the ObjectNet classes.'
  ),
  'few_shot.every': Reporting(
    0,
    'Steps between few-shot evaluations of a training run, which then also ends'
    ' with one; 0: none.',
    low=0,
  ),
  'few_shot.datasets': Key(
    (),
    'Datasets of few-shot evaluations, [METRIC_NAME=]DATASET[|TRAIN|TEST], such'
    ' as caltech101,folder:PATH,digits|train|test, with the splits to learn'
    ' from and to test on.',
  ),
  'few_shot.shots': Key(
    (1, 5, 10, 25), 'Examples per class to learn from.', items=int, low=1
  ),
  'few_shot.seeds': Key(
    3,
    'Random draws of the examples, the same for every model.',
    low=1,
    high=_MAX_REPEATS,
  ),
  'few_shot.l2': Key(
    1024.0, 'L2 regularization of the least-squares fit.', low=1e-6
  ),
  'features.layer': Key(
    'pooled',
    'Features of an image: pooled, its representation; pre_logits, the input of'
    ' the linear head; class_token; patch_mean, the mean of its patch tokens.',
    choices=representations.LAYERS,
  ),
  'features.blocks': Key(
    (),
    'Encoder blocks after which class_token or patch_mean is taken, from 0, or'
    ' from -1 backwards; those of several are concatenated. Empty: after the'
    ' final norm.',
    items=int,
  ),
  'features.normalise': Key(
    False, 'Whether the features of each image are scaled to length 1.'
  ),
  'features.train': Key(
    True,
    'Whether the features of data.train are written too; nearest neighbours are'
    ' then searched there, otherwise in the same split.',
  ),
  'features.neighbours': Key(
    1,
    'Number of nearest neighbours that vote on the class of an image.',
    low=1,
    high=_MAX_NEIGHBOURS,
  ),
  'features.parquet': Key(
    False, 'Whether to write features_SPLIT.parquet too, which needs pyarrow.'
  ),
  'interpolate.paths': Key((), 'Checkpoints with the same shapes.'),
  'interpolate.alphas': Key(
    (),
    'Points on the line from the first checkpoint to the second, such as'
    ' 0,0.5,1; empty: the mean of all.',
    items=float,
  ),
  'predict.paths': Key(
    (), 'Image files, folders to search for them, and table:FILE.'
  ),
  'predict.top': Key(5, 'Number of classes to list per image.', low=1),
  'predict.class_names': Key(
    '',
    'File of class names, one per line, or JSON: a list, {INDEX: NAME} or'
    " {INDEX: [WORDNET_ID, NAME]}; empty: the checkpoint's.",
  ),
  'export.format': Key(
    'stablehlo',
    'What to write: npz, big_vision, timm or huggingface, which are weights;'
    ' stablehlo, saved_model or onnx, programs with their weights.',
    choices=RUNTIMES,
  ),
  'export.input': Key(
    'floats',
    'Images that a program takes, all of the size of the model: floats, in'
    ' [-1, 1]; pixels, uint8 or, with data.bits=16, uint16, which it scales.',
    choices=('floats', 'pixels'),
  ),
  'export.batch_size': Key(
    0, 'Images that a program takes at once; 0: any number.', low=0
  ),
  'export.images': Key(
    (),
    'Image files, and folders of them, of which the first 16 are compared;'
    ' empty: smooth noise.',
  ),
  'inspect.paths': Key(
    (),
    'Image files, and folders of them, to visualize attention for; empty:'
    ' images of the split.',
  ),
  'inspect.num_images': Key(
    128,
    'Images of the split, evenly spaced, over which attention is averaged; 0:'
    ' only those of inspect.paths.',
    low=0,
  ),
  'inspect.pictures': Key(
    8, 'Largest number of images to visualize attention for.', low=1
  ),
  'inspect.pages': Key(
    1,
    'Number of visualized images, from the first, that get an interactive'
    ' attention page.',
    low=0,
  ),
  'inspect.page_mb': Key(
    100.0,
    'Largest size of an interactive page in MB; if not all layers fit, the page'
    ' has evenly spaced ones.',
    low=1,
    high=400,  # Browsers limit the length of strings.
  ),
  'inspect.renormalise': Key(
    False,
    "Whether attention distances exclude the class token; in the paper's figure"
    ' it counts as distance 0.',
  ),
  'report.runs': Key((), 'Workdirs of finished runs to write pages of.'),
  'dedup.against': Key(
    (),
    'Test splits whose images are searched for in the split data.train of'
    ' data.name, each DATASET=SPLIT, such as cifar10=test.',
  ),
  'dedup.skip_missing': Key(
    False,
    'Whether test sets that are not prepared are left out, with a warning.',
  ),
  'dedup.threshold': Key(
    0.92, 'Smallest similarity of near-duplicates.', low=0.5, high=1
  ),
  'dedup.pictures': Key(
    60, 'Number of pairs to draw, starting with the least similar.', low=1
  ),
}
