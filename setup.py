"""Package metadata; requirements.txt pins a tested set of versions."""

import pathlib

import setuptools

README = pathlib.Path(__file__).with_name('README.md')

setuptools.setup(
  name='vit_jax',
  version='0.1.0',
  description='A reference implementation of the Vision Transformer in JAX.',
  long_description=README.read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['vit_jax', 'vit_jax.*']),
  package_data={'vit_jax.page': ['templates/*']},
  # JAX requires 3.11; TensorFlow has no wheels for 3.14.
  python_requires='>=3.11,<3.14',
  install_requires=[
    'absl-py>=2.1',
    'clu>=0.0.12',
    'etils[epath]>=1.10',  # Paths, local and on gs://.
    'filelock>=3.12',  # Locks the folder of compiled programs, as JAX does.
    'flax>=0.12',
    'importlib_resources>=6',  # Imported by TFDS, which does not require it.
    'jax>=0.10,<0.12',
    'jaxtyping>=0.3',
    'jinja2>=3.1',  # Renders report.html.
    'matplotlib>=3.10',  # Draws the figures of a run.
    'ml_collections>=1.1',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12.8,<0.13',
    'pillow>=11',  # Also decodes WebP and TIFF files.
    'scipy>=1.13',  # Blurs rollouts for figures.
    'scikit-learn>=1.5',  # Contains the digits dataset.
    'tensorboard>=2.19',  # Format of the metric history for TensorBoard.
    'tensorflow-cpu>=2.19; sys_platform != "darwin"',
    'tensorflow>=2.19; sys_platform == "darwin"',
    'tensorflow-datasets>=4.9.9',
  ],
  extras_require={
    'test': [
      'faiss-cpu>=1.11',
      'huggingface_hub>=1.31',
      'pyarrow>=18',
      'pytest>=8.3',
      'pytest-xdist>=3.6',  # Compilation uses one core; tests use two.
      'ruff>=0.12',
      'safetensors>=0.5',
      # Run the notebooks in a kernel, as Colab does.
      'ipykernel>=6.29',
      'nbclient>=0.10',
      'nbformat>=5.10',
      # Drives an installed browser and reads its console and requests;
      # Playwright would download a browser.
      'selenium>=4.25',
    ],
    'tpu': ['jax[tpu]>=0.10,<0.12'],
    'cuda': ['jax[cuda12]>=0.10,<0.12'],
    # Compares hashes in the de-duplication job: exact, fast, maintained (MIT),
    # and depends only on `packaging`.
    'dedup': ['faiss-cpu>=1.11'],
    # Reads Parquet files as on the Hugging Face Hub: the implementation by the
    # Apache project that defines the columns (Apache 2.0, released every few
    # months, 50 MB, no dependencies).
    'parquet': ['pyarrow>=18'],
    # Writes weight files for timm and Hugging Face without PyTorch, and
    # downloads theirs by name. The Hub's own library (Apache 2.0, released
    # every few weeks, 30 MB with its dependencies) resolves revisions, checks
    # sizes, and shares its cache with timm and transformers.
    'interop': ['huggingface_hub>=1.31', 'safetensors>=0.5'],
  },
)
