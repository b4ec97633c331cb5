#!/usr/bin/env python3
# -*- coding: utf-8 -*-
# From gpu-submit:
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --time=04:00:00
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic)
print("hello")
