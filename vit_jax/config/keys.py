"""The table of all config keys: default, meaning with unit, range."""

from vit_jax.config.job_keys import JOB_KEYS
from vit_jax.config.key import Key

KEYS = {
  'job': Key('pretrain', 'The job to run, a name in vit_jax.jobs.JOBS.'),
  'seed': Key(0, 'All randomness follows from it.', low=0, high=2**31 - 1),
  'batch_size': Key(4096, 'Examples a step, over all devices.', low=1),
  'eval_batch_size': Key(
    0, 'Examples an evaluation step; 0: batch_size.', low=0, on_resume=True
  ),
  'total_steps': Key(0, 'Length in steps; 0: as total_epochs says.', low=0),
  'total_epochs': Key(
    0.0, 'Length in epochs of the training split; 0: as total_steps.', low=0
  ),
  'log_every': Key(50, 'Steps between progress lines.', low=1),
  'eval_every': Key(
    0, 'Steps between evaluations; 0: at the end alone.', low=0
  ),
  'checkpoint_every': Key(
    1000,
    'Steps between checkpoints; 0: at the end alone.',
    low=0,
    on_resume=True,
  ),
  'keep_checkpoints': Key(
    3, 'How many of the last checkpoints stay.', low=1, on_resume=True
  ),
  'best_metric': Key(
    '',
    'Metric, such as val/accuracy, whose best checkpoint is kept beside the'
    ' last; empty: none.',
  ),
  'profile_steps': Key(
    '',
    'Steps FIRST:LAST to record with the profiler; empty: none.',
    on_resume=True,
  ),
  'init_from': Key(
    '', 'Checkpoint to start from, of any supported format; empty: none.'
  ),
  'init_head': Key(
    'replace',
    "What becomes of that checkpoint's head: replace (by zeros),"
    ' keep_pre_logits, keep.',
    choices=('replace', 'keep_pre_logits', 'keep'),
  ),
  'loss': Key(
    'softmax',
    'softmax, or sigmoid summed over classes (ImageNet-21k, JFT).',
    choices=('softmax', 'sigmoid'),
  ),
  'label_smoothing': Key(
    0.0, 'Share of probability spread over all classes.', low=0, high=0.999
  ),
  'mixup': Key(0.0, 'Alpha of MixUp, 0.1 in the BiT recipe; 0: none.', low=0),
  'class_weights': Key(
    'none',
    'Weights of the classes in the loss: none, or balanced, which makes all'
    ' classes count alike.',
    choices=('none', 'balanced'),
  ),
  'model.name': Key(
    'ViT-B/16',
    'Size and patch side, such as ViT-B/16; empty, where nothing is trained: as'
    ' the checkpoint has it.',
  ),
  'model.depth': Key(0, "Layers; 0: the name's.", low=0),
  'model.width': Key(0, "Token size; 0: the name's.", low=0),
  'model.mlp_dim': Key(0, "Hidden size of the MLPs; 0: the name's.", low=0),
  'model.heads': Key(0, "Attention heads; 0: the name's.", low=0),
  'model.patch_size': Key(0, "Patch side in px; 0: the name's.", low=0),
  'model.stage_depths': Key(
    '', "Units of a ResNet's stages, as in 3,4,6,3; empty: the name's."
  ),
  'model.width_factor': Key(
    0.0, "Width of a ResNet, in halves; 0: the name's.", low=0
  ),
  'model.pool': Key(
    'token',
    'Image representation: class token or global average.',
    choices=('token', 'gap'),
  ),
  'model.positions': Key(
    '1d',
    'How a transformer knows where patches are (Appendix D.4): none; 1d, by'
    ' their place in the sequence; 2d, by row and column; relative, by the'
    ' offsets between them.',
    choices=('none', '1d', '2d', 'relative'),
  ),
  'model.positions_at': Key(
    'stem',
    'Where 1d and 2d embeddings are added: stem; every_layer, to the input of'
    ' each, with its own; every_layer_shared, with the same.',
    choices=('stem', 'every_layer', 'every_layer_shared'),
  ),
  'model.representation_size': Key(
    0,
    "Width of the head's hidden tanh layer; 0: none; -1: the model's width.",
    low=-1,
  ),
  'model.dropout': Key(0.0, 'Dropout rate (Appendix B.1).', low=0, high=0.999),
  'model.dtype': Key(
    'float32',
    'Compute type; parameters, softmax and norms stay float32.',
    choices=('float32', 'bfloat16'),
  ),
  'model.gelu': Key(
    '',
    'Form of GELU, tanh or erf; empty: as init_from has it, else tanh.',
    choices=('', 'tanh', 'erf'),
    derived=True,
  ),
  'model.norm_eps': Key(
    0.0,
    'Epsilon of LayerNorms; 0: as init_from has it, else 1e-6.',
    low=0,
    derived=True,
  ),
  'model.head_bias': Key(
    0.0, 'Initial bias of the head; -10 suits sigmoid and many classes.'
  ),
  'model.scan': Key(
    False,
    'Whether training runs the encoder as a scan over its blocks: it compiles'
    ' faster and needs less memory.',
    on_resume=True,
  ),
  'model.remat': Key(
    'none',
    'What training computes again to save memory: none; full, all of a block;'
    ' dots, all but the outputs of dense layers.',
    choices=('none', 'full', 'dots'),
    on_resume=True,
  ),
  'data.name': Key(
    'digits',
    'digits, folder:PATH, tfds:BUILDER, vtab:TASK or a catalogue name; vtab,'
    ' in the job of that name, for all tasks.',
  ),
  'data.train': Key('train', 'Training split, such as train[:98%].'),
  'data.eval': Key(
    'test',
    'Splits to evaluate, [METRIC_NAME=]SPLIT, separated by commas, such as'
    ' val=train[98%:],test=validation.',
  ),
  'data.subset': Key(
    0, 'Train on this many random examples of the split; 0: all.', low=0
  ),
  'data.exclude': Key(
    '',
    'List of examples that are not trained on, as configs/dedup.py writes it;'
    ' empty: none. data.subset is drawn from the others.',
  ),
  'data.dir': Key('', 'TFDS data folder; empty: the default.', on_resume=True),
  'data.manual_dir': Key(
    '', 'Folder of files downloaded by hand for TFDS.', on_resume=True
  ),
  'data.download': Key(
    False, 'Whether TFDS may download and prepare the data.', on_resume=True
  ),
  'data.readers': Key(
    0,
    'Readers that each give their part of every batch, from files of their own;'
    ' processes share them. 0: as many as there are files, but a power of two'
    ' up to 64 that divides batch_size.',
    low=0,
    high=4096,
  ),
  'data.skip_corrupt': Key(
    False,
    'Whether to go on without examples that cannot be read, counting them.',
    on_resume=True,
  ),
  'data.image_size': Key(
    224,
    'Image height in px, and width unless set; 0, where nothing is trained: as'
    ' the checkpoint has it.',
    low=0,
  ),
  'data.image_width': Key(0, 'Image width in px; 0: image_size.', low=0),
  'data.crop': Key(
    'inception',
    'Training crop: inception (area data.crop_area to 1), resize, random'
    ' (resize, then random crop), center.',
    choices=('inception', 'resize', 'random', 'center'),
  ),
  'data.crop_area': Key(
    0.05, 'Smallest share of the area of an inception crop.', low=0.01, high=1
  ),
  'data.precrop_size': Key(
    0,
    'Side in px before a random or center crop; 0: 7/6 of the image, as 448'
    ' for 384.',
    low=0,
  ),
  'data.flip': Key(True, 'Random horizontal flips.'),
  'data.rotate_degrees': Key(
    0.0, 'Largest random rotation, to either side.', low=0, high=180
  ),
  'data.scale': Key(
    0.0, 'Largest random zoom, as a fraction, to either side.', low=0, high=0.9
  ),
  'data.shift': Key(
    0.0, 'Largest random shift, as a fraction of a side.', low=0, high=1
  ),
  'data.eval_crop': Key(
    'resize',
    'Evaluation crop: resize straight to the size, center, or resize_center'
    ' (resize straight to data.precrop_size, then the middle).',
    choices=('resize', 'center', 'resize_center'),
  ),
  'data.trim_px': Key(
    0,
    'Border in px that is cut off images to evaluate, 2 for ObjectNet.',
    low=0,
  ),
  'optim.name': Key(
    'adam', 'adam (with decoupled decay) or sgd.', choices=('adam', 'sgd')
  ),
  'optim.lr': Key(1e-3, 'Learning rate after warm-up.', low=0),
  'optim.schedule': Key(
    'cosine',
    'Decay after warm-up: linear, to 1e-5; cosine, to 0; steps, to a tenth'
    ' after each of optim.boundaries.',
    choices=('linear', 'cosine', 'steps'),
  ),
  'optim.boundaries': Key(
    '', 'Steps, separated by commas, of the decay in steps.'
  ),
  'optim.warmup_steps': Key(
    10_000,
    'Steps of linear warm-up; -1: a tenth of the run, at most 10,000.',
    low=-1,
  ),
  'optim.b1': Key(0.9, "Adam's decay of the mean.", low=0, high=1),
  'optim.b2': Key(0.999, "Adam's decay of the square.", low=0, high=1),
  'optim.momentum': Key(0.9, 'Momentum of sgd.', low=0, high=1),
  'optim.mu_dtype': Key(
    'float32',
    "Type in which Adam's mean or the momentum of sgd is kept.",
    choices=('float32', 'bfloat16'),
  ),
  'optim.weight_decay': Key(
    0.0, 'Decoupled decay of kernels, times the learning rate.', low=0
  ),
  'optim.clip_norm': Key(
    0.0, 'Largest global norm of a gradient; 0: no clipping.', low=0
  ),
  'optim.ema_decay': Key(
    0.0, 'Decay of the averaged weights (Polyak); 0: none.', low=0, high=1
  ),
  'optim.freeze': Key(
    '',
    'Weights that are not trained, a regular expression for whole paths;'
    ' (?!head/).* makes a linear probe; empty: none.',
  ),
  'optim.accumulate': Key(
    1, 'Micro-batches whose gradients make one step.', low=1
  ),
  'masked_patch.target': Key(
    'mean_colour',
    'What is predicted of a corrupted patch: mean_colour, one of 512;'
    ' downsized, 4x4 such colours; pixels, by regression.',
    choices=('mean_colour', 'downsized', 'pixels'),
  ),
  'masked_patch.rate': Key(
    0.5,
    "Share of an image's patches to corrupt: 80 % of them masked, 10 % replaced"
    ' by others, 10 % kept.',
    low=0,
    high=1,
  ),
  'masked_patch.picture_every': Key(
    0,
    'Steps between pictures of what is predicted; 0: at the end alone.',
    low=0,
  ),
  'distributed.coordinator': Key(
    '',
    'HOST:PORT where process 0 of several listens; empty: as the environment'
    ' says; none: this process is alone.',
    on_resume=True,
  ),
  'distributed.num_processes': Key(
    0,
    'Processes of the run; 0: as the environment says.',
    low=0,
    on_resume=True,
  ),
  'distributed.process_index': Key(
    -1,
    'Which of them this is, from 0; -1: as the environment says.',
    low=-1,
    on_resume=True,
  ),
  'distributed.start_timeout': Key(
    300, 'Seconds to wait for all processes.', low=1, on_resume=True
  ),
  'distributed.heartbeat_timeout': Key(
    100,
    'Seconds after which a process that is not heard of ends all others.',
    low=5,
    on_resume=True,
  ),
  'sweep.job': Key(
    'finetune',
    'Job of each run of a sweep.',
    choices=('finetune', 'pretrain'),
  ),
  'sweep.grid': Key(
    '',
    'Values to try, KEY=A|B|C, for several keys separated by blanks; all'
    ' combinations are runs.',
  ),
  'sweep.also': Key(
    '',
    'More runs, each the KEY=VALUE pairs that it changes, separated by ;.',
  ),
  'sweep.train': Key('train[:90%]', 'What the runs to choose from train on.'),
  'sweep.val': Key('train[90%:]', 'What they are chosen by.'),
  'sweep.seeds': Key(
    3, 'Runs of the chosen setting, on all of data.train.', low=1
  ),
  'mesh.data': Key(
    -1,
    'Groups of devices that share the batch and each keep the whole state; -1:'
    ' as many as there are devices left.',
    low=-1,
    on_resume=True,
  ),
  'mesh.fsdp': Key(
    1,
    'Devices of a group that share its part of the batch, and over which'
    ' weights, averages and optimiser state are sharded; -1: the rest.',
    low=-1,
    on_resume=True,
  ),
  'mesh.tensor': Key(
    1,
    'Devices over which attention heads and MLPs are sharded; -1: the rest.',
    low=-1,
    on_resume=True,
  ),
  'report.page': Key(
    True, 'Whether the job ends with its page, report.html.', on_resume=True
  ),
  **JOB_KEYS,
}
