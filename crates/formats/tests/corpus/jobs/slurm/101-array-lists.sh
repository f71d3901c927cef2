#!/bin/bash
#SBATCH --array=1-3,10-12,40%2
#SBATCH --output=logs/%A-%3a.out
#SBATCH --gres=gpu:2080ti:1
#SBATCH --time=2:30:00
#SBATCH --exclude=gpu[07,09-11]
python infer.py --fold "$SLURM_ARRAY_TASK_ID" --device cuda:0
