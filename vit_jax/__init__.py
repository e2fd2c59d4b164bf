"""Vision Transformers (arXiv 2010.11929): models, training, evaluation."""

import os

# TensorFlow only reads data here, and would announce on every start, past any
# log level, that oneDNN may speed up its own networks.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
