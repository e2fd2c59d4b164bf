#!/bin/bash
# Measures training, attention and inference on one NVIDIA GPU; needs PyTorch,
# timm and Hugging Face's transformers beside this package, but no TensorFlow.
#
#   bash benchmarks/gpu.sh [FOLDER] [DEVICE]
#
# Writes its output, a profile of a step and the table of the inference job to
# FOLDER, by default /tmp/vit_jax_gpu. On an H200, steps take 6 minutes. With
# DEVICE=cpu, runs the same commands with tiny sizes, to test them.
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-/tmp/vit_jax_gpu}
device=${2:-gpu}
mkdir -p "$folder"
export PYTHONPATH=$PWD TF_CPP_MIN_LOG_LEVEL=2
if [ "$device" = cpu ]; then
  models=ViT-Ti/16 size=(--image_size=32) batch=4 repetitions=2
  inference=(--config.inference.cpu_memory=0.1)
else
  models=ViT-B/16,ViT-L/16 size=(--image_size=224) batch=256 repetitions=15
  inference=(--config.model.scan=true)  # Compiles each batch sooner.
fi

run() {
  echo "\$ $*"
  timeout 400 "$@" || echo "failed: exit code $?"
}

{
  [ "$device" = cpu ] || nvidia-smi --query-gpu=name,memory.total --format=csv
  run python3 benchmarks/step.py --device="$device" --models="$models" \
    --work=step --dtype=bfloat16 --batch="$batch" "${size[@]}" --alone \
    --repetitions="$repetitions" --peers=timm-compiled,hf-compiled
  run python3 benchmarks/operations.py --model="${models%%,*}" \
    --dtype=bfloat16 --batch="$batch" "${size[@]}" --save="$folder/operations"
  # In a fifth of the memory, the largest batch is found sooner.
  XLA_PYTHON_CLIENT_MEM_FRACTION=0.2 run python3 -m vit_jax.main \
    --config=configs/inference.py:"${models%%,*}" "${inference[@]}" \
    --config.inference.image_sizes="${size[0]#*=}" \
    --config.inference.seconds=1 --config.inference.repetitions=5 \
    --workdir="$folder/inference"
  run python3 benchmarks/attention.py --models="$models" --batch="$batch" \
    "${size[@]}"
} 2>&1 | tee "$folder/output.txt"
