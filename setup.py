"""Installs vit_jax; requirements.txt pins versions that run together."""

import pathlib

import setuptools

README = pathlib.Path(__file__).with_name('README.md')

setuptools.setup(
  name='vit_jax',
  version='0.1.0',
  description='The Vision Transformer (arXiv 2010.11929), whole, in JAX.',
  long_description=README.read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  packages=setuptools.find_packages(include=['vit_jax', 'vit_jax.*']),
  package_data={'vit_jax.page': ['templates/*']},
  python_requires='>=3.11',
  install_requires=[
    'absl-py>=2.1',
    'clu>=0.0.12',
    'etils[epath]>=1.10',  # One path type for local folders and gs://.
    'flax>=0.12',
    'importlib_resources>=6',  # TFDS imports it and does not ask for it.
    'jax>=0.10,<0.12',
    'jaxtyping>=0.3',
    'jinja2>=3.1',  # Fills the template of report.html.
    'matplotlib>=3.10',  # Draws the figures that runs leave.
    'ml_collections>=1.1',
    'numpy>=2.0',
    'optax>=0.2.5',
    'orbax-checkpoint>=0.12.8,<0.13',
    'pillow>=11',  # Turns photos as their EXIF orientation says.
    'scipy>=1.13',  # Blurs rollouts before they are drawn.
    'scikit-learn>=1.5',  # Carries the embedded data, 1,797 digits.
    'tensorboard>=2.19',  # clu's TensorBoard writer needs it.
    'tensorflow-cpu>=2.19; sys_platform != "darwin"',
    'tensorflow>=2.19; sys_platform == "darwin"',
    'tensorflow-datasets>=4.9.9',
  ],
  extras_require={
    'test': [
      'faiss-cpu>=1.11',
      'pytest>=8.3',
      'pytest-xdist>=3.6',  # Compiling keeps one core busy; the suite has two.
      'ruff>=0.12',
      'safetensors>=0.5',
      # Run the notebooks as Colab does, in a kernel of their own.
      'ipykernel>=6.29',
      'nbclient>=0.10',
      'nbformat>=5.10',
      # Drives a browser that is there, for its console and its requests; it
      # downloads none, as Playwright would.
      'selenium>=4.25',
    ],
    'tpu': ['jax[tpu]>=0.10,<0.12'],
    'cuda': ['jax[cuda12]>=0.10,<0.12'],
    # Compares hashes for the de-duplication job. Of libraries that do, it is
    # exact, quick and well kept (MIT), and brings only itself and `packaging`.
    'dedup': ['faiss-cpu>=1.11'],
    # Weight files of timm and Hugging Face, without PyTorch itself.
    'interop': ['safetensors>=0.5'],
  },
)
