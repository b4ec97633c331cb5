#!/bin/bash
#SBATCH --job-name="a \"job\" #1"
#SBATCH --account=nlp
#SBATCH --partition=gpu
#SBATCH --qos=normal
#SBATCH --nodes=1
#SBATCH --gres=gpu:h100:4
#SBATCH --time=04:00:00
# --comment is given to sbatch on its command line, for it holds a control character: first?second gpu-submit(token=4f2a0c;workload=generic;templa…
#SBATCH --exclude=gpu[07-09]
#SBATCH --mail-type=END
export GREETING='hello world'
export RAW=$'\377\033[31m'
exec -- python 'it'"'"'s' '$(reboot)' $'two\nlines' -n
