#!/bin/bash
#SBATCH -J nightly --gpus=h100:4   # as agreed
#SBATCH --time=4:00:00
# From gpu-submit:
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic)
# From gpu-submit:
export SEED=1

module load cuda
srun python train.py "$@"
