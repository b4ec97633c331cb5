#!/bin/bash
#SBATCH --job-name=nvidia-smi
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --gpus=4
#SBATCH --time=04:00:00
#SBATCH --constraint=h100
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;template=batch)

exec -- nvidia-smi
