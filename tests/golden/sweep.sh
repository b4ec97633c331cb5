#!/bin/bash
#SBATCH --job-name=python
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --time=04:00:00
#SBATCH --array=1-2%1
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=generic;template=sweep)

export SWEEP_INDEX=$SLURM_ARRAY_TASK_ID SWEEP_COUNT=2 SWEEP_LINE
case $SLURM_ARRAY_TASK_ID in
1) SWEEP_LINE='--lr 0.1 --name '"'"'first run'"'"''; set -- --lr 0.1 --name 'first run' ;;
2) SWEEP_LINE='--lr 0.01'; set -- --lr 0.01 ;;
*)
    echo "sweep: there is no line $SLURM_ARRAY_TASK_ID, the file had $SWEEP_COUNT" >&2
    exit 2
    ;;
esac
exec -- python train.py "$@"
