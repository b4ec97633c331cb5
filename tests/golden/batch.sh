#!/bin/bash
#SBATCH --job-name=python
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --mem=64000M
#SBATCH --time=04:00:00
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;template=batch)

exec -- python train.py --epochs=3
