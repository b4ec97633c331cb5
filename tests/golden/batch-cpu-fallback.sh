#!/bin/bash
#SBATCH --job-name=python
#SBATCH --account=nlp
#SBATCH --partition=cpu
#SBATCH --qos=normal
#SBATCH --cpus-per-task=16
#SBATCH --time=04:00:00
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;template=batch)

exec -- python prepare.py
