"""Compiled programs are shared by all tests and the processes they start."""

import os
import tempfile

_cache = tempfile.TemporaryDirectory(prefix='vit_jax_tests_')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', _cache.name)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.1')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
