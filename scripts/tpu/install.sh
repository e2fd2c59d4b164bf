#!/usr/bin/env bash
# Copies this working tree to all workers of a TPU and installs it there.
#
#   scripts/tpu/install.sh NAME
#
# It is copied to ~/vit_jax, with its own Python in .venv because VM images have
# an older one. Files that git does not track are not copied.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
parse 'install.sh NAME' 1 "$@"
name=${names[0]}

archive=vit_jax.tar.gz
if ! $dry_run; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  archive=$folder/$archive
  git -C "$root" ls-files -z | tar -C "$root" --null -T - -czf "$archive"
fi
run gcloud compute tpus tpu-vm scp "$archive" "$name:vit_jax.tar.gz" \
  "${place[@]}" --worker=all
on_workers "$name" all "mkdir -p vit_jax && tar -xzf vit_jax.tar.gz -C vit_jax\
 && cd vit_jax && python3 -m pip install --user --quiet uv\
 && ~/.local/bin/uv venv --quiet --allow-existing --python=3.11 .venv\
 && ~/.local/bin/uv pip install --quiet -c requirements.txt -e '.[tpu]'"
