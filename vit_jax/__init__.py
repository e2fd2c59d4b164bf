"""Vision Transformers (arXiv 2010.11929): models, training, evaluation."""

import os

# TensorFlow only reads data here; keep its start-up remarks off the log.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
