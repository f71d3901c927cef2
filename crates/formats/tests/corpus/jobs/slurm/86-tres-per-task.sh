#!/bin/bash
#SBATCH --job-name=ensemble
#SBATCH --ntasks=8
#SBATCH --tres-per-task=cpu=7,gres/gpu:a100=1
#SBATCH --tres-bind=gres/gpu:closest
#SBATCH --mem-per-gpu=60G
#SBATCH --time=3:00:00
srun python member.py --seed "$SLURM_PROCID"
