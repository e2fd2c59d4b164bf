"""Vision Transformers (arXiv 2010.11929): models, training, evaluation."""

import os

# TensorFlow only reads data here. At every start, whatever the log level, it
# would print that oneDNN may speed up its own networks.
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
