"""All config keys.

Those of the model are in `model_keys`, those that single jobs read in
`job_keys`.
"""

from vit_jax.checkpoints import fitting, position_tables
from vit_jax.config.job_keys import JOB_KEYS
from vit_jax.config.key import Adjustable, Key, Reporting
from vit_jax.config.model_keys import MAX_SIDE_PX, MODEL_KEYS
from vit_jax.data import class_matching, decode, preprocess, randaugment
from vit_jax.models import factory
from vit_jax.training import optim, steps

# Adam divides by 1 - b**t.
_MAX_DECAY = 0.999999

_RUN = {
  'job': Key('pretrain', 'Job to run, a name in vit_jax.jobs.JOBS.'),
  'seed': Key(0, 'Seed of all randomness.', low=0, high=2**31 - 1),
  'batch_size': Key(4096, 'Examples per step, over all devices.', low=1),
  'eval_batch_size': Adjustable(
    0, 'Examples per evaluation step; 0: batch_size.', low=0
  ),
  'total_steps': Key(0, 'Length in steps; 0: given by total_epochs.', low=0),
  'total_epochs': Key(
    0.0, 'Length in epochs of data.train; 0: given by total_steps.', low=0
  ),
  'log_every': Adjustable(50, 'Steps between progress lines.', low=1),
  'eval_every': Reporting(
    0, 'Steps between evaluations; 0: only at the end.', low=0
  ),
  'checkpoint_every': Adjustable(
    1000, 'Steps between checkpoints; 0: only at the end.', low=0
  ),
  'keep_checkpoints': Adjustable(
    3, 'Number of latest checkpoints to keep.', low=1
  ),
  'best_metric': Key(
    '',
    'Metric of an evaluation, such as val/accuracy, by which to keep the best'
    ' weights besides the last; empty: none.',
  ),
  'label_threshold': Key(
    0.5,
    'Probability above which a label is predicted, for data with several labels'
    ' per image: in F1 and in lists of labels.',
    low=1e-6,
    high=0.999999,
  ),
  'profile_steps': Adjustable('', 'Steps FIRST:LAST to profile; empty: none.'),
  'init_from': Key(
    '',
    'Checkpoint to start from, in any supported format: a path, or a name such'
    ' as augreg:B/16 or hf://ORG/NAME; empty: none.',
  ),
  'init_head': Key(
    'replace',
    'What to do with the head of the init_from checkpoint: replace it by a'
    ' linear layer of zeros; keep_pre_logits, keep only its hidden layer; keep,'
    ' keep all of it.',
    choices=fitting.HEADS,
  ),
  'init_positions': Key(
    'bilinear',
    'How position embeddings of init_from are resized to another grid: bilinear'
    ' (the official code); bicubic, as in Hugging Face; bicubic_antialias, as'
    ' in timm and in models with registers of Hugging Face.',
    choices=position_tables.METHODS,
  ),
  'loss': Key(
    'softmax',
    'Cross-entropy: softmax, or sigmoid summed over classes (ImageNet-21k,'
    " JFT); empty: the checkpoint's, unless the job trains.",
    choices=('', *steps.LOSSES),
    derived=True,
  ),
  'label_smoothing': Key(
    0.0, 'Share of probability spread over all classes.', low=0, high=0.999
  ),
  'mixup': Key(
    0.0, 'Alpha of MixUp, 0.1 in the BiT recipe; 0: none.', low=0, high=1000
  ),
  'mixup_form': Key(
    'bit',
    'Form of MixUp, which mixes each image with another one of the batch: bit,'
    ' with the one at the mirrored position; augreg (arXiv 2106.10270), with'
    ' the previous one, whose weight is the smaller.',
    choices=steps.MIXUPS,
  ),
  'class_weights': Key(
    'none',
    'Class weights in the loss: none; balanced, by inverse frequency.',
    choices=steps.CLASS_WEIGHTS,
  ),
  'compilation_cache': Adjustable(
    '',
    'Folder in which compiled programs are kept for later runs, unless'
    ' JAX_COMPILATION_CACHE_DIR is set; none: they are not kept; empty: the'
    ' folder compiled in $VIT_JAX_CACHE or ~/.cache/vit_jax, unless the run has'
    ' several processes.',
  ),
  'report.page': Adjustable(
    True, 'Whether the job writes its page, report.html.'
  ),
}

_DATA = {
  'data.name': Key(
    'digits',
    'Dataset: digits, folder:PATH, table:FILE[,root=DIR][,path=COL][,label=COL]'
    '[,split=COL], tfds:BUILDER, vtab:TASK or a name in the catalog; vtab for'
    ' the job of that name.',
  ),
  'data.train': Key('train', 'Training split, such as train[:98%].'),
  'data.eval': Reporting(
    'test',
    'Splits to evaluate, [METRIC_NAME=]SPLIT separated by commas, such as'
    ' val=train[98%:],test=validation.',
  ),
  'data.subset': Key(
    0, 'Number of random examples of data.train to use; 0: all.', low=0
  ),
  'data.exclude': Key(
    '',
    'File of examples to leave out of training, from configs/dedup.py; empty:'
    ' none. data.subset is drawn from the others.',
  ),
  'data.index': Adjustable(
    '',
    'File that keeps the names and sizes of the files of folder:PATH, so that'
    ' restarts and other processes do not list the folder again. It is written'
    ' if it does not exist; remove it if the folder has changed.',
  ),
  'data.dir': Adjustable('', 'TFDS data folder; empty: the default.'),
  'data.manual_dir': Adjustable(
    '', 'Folder of files downloaded by hand for TFDS.'
  ),
  'data.download': Adjustable(
    False, 'Whether TFDS may download and prepare the data.'
  ),
  'data.match_classes': Key(
    'name',
    "How classes of the data are matched with those of a checkpoint's head: by"
    ' name, or by index if only the names differ.',
    choices=class_matching.CHOICES,
  ),
  'data.readers': Key(
    0,
    'Readers that each supply an equal part of every batch from their own'
    ' files; processes share them. 0: the number of files, rounded down to a'
    ' power of two up to 64 that divides batch_size.',
    low=0,
    high=4096,
  ),
  'data.skip_corrupt': Adjustable(
    False, 'Whether to skip examples that cannot be read, and count them.'
  ),
  'data.max_pixels': Adjustable(
    decode.MAX_PIXELS,
    'Largest height times width of an image file. Larger ones are errors, or'
    ' skipped, before they are decoded, which bounds memory and time.',
    low=1,
  ),
  'data.channels': Key(
    0,
    'Channels of images: 1, luma; 3, RGB; 4, RGB and alpha; 0: those of'
    ' init_from, else 3.',
    choices=(0, *decode.CHANNELS),
    derived=True,
  ),
  'data.bits': Key(
    0,
    'Bits per channel to read: 8; 16, also of 8-bit images, all of which are'
    ' scaled to [-1, 1]; 0: those of init_from, else 8.',
    choices=(0, *decode.BITS),
    derived=True,
  ),
  'data.image_size': Key(
    224,
    'Image height in px, and width unless data.image_width is set; 0: the'
    " checkpoint's, unless the job trains.",
    low=0,
    high=MAX_SIDE_PX,
  ),
  'data.image_width': Key(
    0, 'Image width in px; 0: data.image_size.', low=0, high=MAX_SIDE_PX
  ),
  'data.crop': Key(
    'inception',
    'Training crop: inception, with a share of the area from data.crop_area to'
    ' 1; resize; random, after a resize; center.',
    choices=preprocess.CROPS,
  ),
  'data.crop_area': Key(
    0.05, 'Smallest share of the area of an inception crop.', low=0.01, high=1
  ),
  'data.precrop_size': Key(
    0,
    'Side in px before a random or center crop; 0: 7/6 of the size.',
    low=0,
    high=2 * MAX_SIDE_PX,
  ),
  'data.flip': Key(True, 'Whether to flip images at random.'),
  'data.rotate_degrees': Key(
    0.0, 'Largest random rotation either way, in degrees.', low=0, high=180
  ),
  'data.scale': Key(
    0.0, 'Largest random zoom in or out, as a fraction.', low=0, high=0.9
  ),
  'data.shift': Key(
    0.0, 'Largest random shift either way, as a share of a side.', low=0, high=1
  ),
  'data.randaugment': Key(
    (),
    'LAYERS,MAGNITUDE of RandAugment after all other augmentation of images,'
    ' such as 2,10; empty: none.',
    items=int,
    low=0,
    high=randaugment.MAX_MAGNITUDE,
  ),
  'data.eval_crop': Key(
    'resize',
    'Evaluation crop: resize, to the image size; center; resize_center, to'
    " data.precrop_size and then the center; empty: the checkpoint's, with its"
    ' precrop size and trimmed border, unless the job trains.',
    choices=('', *preprocess.EVAL_CROPS),
    derived=True,
  ),
  'data.eval_interpolation': Key(
    'bilinear',
    "How evaluation images are resized: bilinear, as in the paper's code, or"
    ' with antialiasing, as in PIL and libraries for PyTorch; empty: the'
    " checkpoint's, unless the job trains.",
    choices=('', *preprocess.INTERPOLATIONS),
    derived=True,
  ),
  'data.trim_px': Key(
    0,
    'Border in px to cut off evaluation images, 2 for ObjectNet.',
    low=0,
    high=MAX_SIDE_PX,
  ),
}

_OPTIM = {
  'optim.name': Key(
    'adam',
    'Optimizer: adam or sgd.',
    choices=optim.OPTIMIZERS,
  ),
  'optim.lr': Key(1e-3, 'Learning rate after warm-up.', low=0),
  'optim.layer_decay': Key(
    1.0,
    'Factor of the learning rate from each encoder block to the one before it,'
    ' down from 1 for the head, such as 0.75; 1: none.',
    low=1e-6,
    high=1,
  ),
  'optim.lr_factors': Key(
    (),
    'Factors of the learning rate, PATTERN=FACTOR separated by commas, such as'
    ' head/.*=10. A pattern is a regular expression that matches the full paths'
    ' of weights. The first match applies; other weights have 1.',
    items=float,
    low=0,
    form='factors',
  ),
  'optim.schedule': Key(
    'cosine',
    'Decay after warm-up: linear, to 1e-5; cosine, to 0; steps, by a factor of'
    ' 10 at each of optim.boundaries.',
    choices=optim.DECAYS,
  ),
  'optim.boundaries': Key(
    (), 'Steps at which the rate decays.', items=int, low=1
  ),
  'optim.warmup_steps': Key(
    10_000,
    'Linear warm-up steps; -1 or too many: 1/10 of the run, at most 10,000.',
    low=-1,
  ),
  'optim.b1': Key(
    0.9, "Decay rate of Adam's first moment.", low=0, high=_MAX_DECAY
  ),
  'optim.b2': Key(
    0.999, "Decay rate of Adam's second moment.", low=0, high=_MAX_DECAY
  ),
  'optim.momentum': Key(0.9, 'Momentum of sgd.', low=0, high=1),
  'optim.mu_dtype': Key(
    'float32',
    "Dtype of Adam's first moment or SGD's momentum.",
    choices=factory.DTYPES,
  ),
  'optim.weight_decay': Key(
    0.0, 'Weight decay of kernels, times the learning rate.', low=0
  ),
  'optim.coupled_decay': Key(
    False,
    'Whether weight decay is added to the gradient, as L2 regularization,'
    ' instead of to the update.',
  ),
  'optim.clip_norm': Key(
    0.0, 'Largest global norm of the gradient; 0: no clipping.', low=0
  ),
  'optim.ema_decay': Key(
    0.0, 'Decay of the averaged weights (Polyak); 0: none.', low=0, high=1
  ),
  'optim.ema_ramp': Key(
    True,
    'Whether the decay of the averaged weights rises to its value, as (1 + t) /'
    ' (10 + t) at step t, so that short runs forget the initial weights.',
  ),
  'optim.freeze': Key(
    '',
    'Regular expression that matches the full paths of weights to freeze;'
    ' (?!head/).* makes a linear probe; empty: none.',
  ),
  'optim.accumulate': Adjustable(
    1, 'Micro-batches per step, whose gradients are accumulated.', low=1
  ),
}

_MESH = {
  'mesh.data': Adjustable(
    -1,
    'Groups of devices that share the batch and each hold the whole state; -1:'
    ' all remaining devices.',
    low=-1,
  ),
  'mesh.fsdp': Adjustable(
    1,
    'Devices of a group that share its part of the batch and shard weights,'
    ' averages and optimizer state; -1: all remaining devices.',
    low=-1,
  ),
  'mesh.tensor': Adjustable(
    1, 'Devices that shard attention heads and MLPs; -1: all remaining.', low=-1
  ),
  'distributed.coordinator': Adjustable(
    '',
    "HOST:PORT of process 0; empty: the cluster's or the environment's; none:"
    ' this is the only process.',
  ),
  'distributed.num_processes': Adjustable(
    0, "Processes of the run; 0: the environment's.", low=0
  ),
  'distributed.process_index': Adjustable(
    -1, "Index of this process, from 0; -1: the environment's.", low=-1
  ),
  'distributed.start_timeout': Adjustable(
    300, 'Seconds to wait for all processes.', low=1, high=86_400
  ),
  'distributed.heartbeat_timeout': Adjustable(
    100,
    'Seconds without a heartbeat after which a process counts as lost and the'
    ' others exit.',
    low=5,
    high=86_400,
  ),
}

KEYS = _RUN | MODEL_KEYS | _DATA | _OPTIM | _MESH | JOB_KEYS
