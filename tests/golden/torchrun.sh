#!/bin/bash
#SBATCH --job-name=train.py
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=2
#SBATCH --ntasks=2
#SBATCH --gres=gpu:h100:8
#SBATCH --time=04:00:00
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --comment=gpu-submit(token=4f2a0c;workload=training;template=torchrun;retries=3)

_gs_hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST") || exit 1
_gs_host=${_gs_hosts%%$'\n'*}
_gs_port=0
# Below the range from which the kernel takes ports for outgoing connections (32768 and up).
[[ $_gs_port != 0 ]] || _gs_port=$((15000 + SLURM_JOB_ID % 15000))
export MASTER_ADDR=$_gs_host MASTER_PORT=$_gs_port

# A step without requests of its own is given all that the job has. What stands in these
# variables srun would take for such requests, and refuse some of them side by side.
unset SLURM_GPUS SLURM_GPU_BIND "${!SLURM_GPUS_PER_@}" "${!SLURM_MEM_PER_@}" \
    "${!SLURM_NTASKS_PER_@}" "${!SLURM_TRES_PER_@}"

export NCCL_DEBUG=INFO
# What each node runs: its number of GPUs is known there only. The shell stays to the end, and
# leaves signals to the launcher, which gets them too. srun takes the highest code for the job's:
# a node that is ended because another one failed (143) must not hide that one's code.
_gs_start='
    launcher=$1 endpoint=$2 id=$3 restarts=$4
    shift 4
    trap : TERM INT HUP QUIT USR1 USR2 ALRM
    (exec -- "$launcher" --nnodes="$SLURM_NNODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
        --max-restarts="$restarts" --rdzv-backend=c10d --rdzv-id="$id" \
        --rdzv-endpoint="$endpoint" "$@")
    code=$?
    exit "$((code == 143 ? 1 : code))"
'
# srun hands on the signals it gets, and ends all nodes when one of them fails.
exec srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 \
    --kill-on-bad-exit=1 -- bash -c "$_gs_start" torchrun torchrun \
    "$_gs_host:$_gs_port" "$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}" 0 \
    train.py --model 'my model'
