#!/bin/bash
# Replaced by gpu-submit: #SBATCH -J nightly --gpus=4   # as agreed
#SBATCH --job-name=nightly
#SBATCH --time=4:00:00
# From gpu-submit:
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;retries=2)

module load cuda
srun python train.py "$@"
