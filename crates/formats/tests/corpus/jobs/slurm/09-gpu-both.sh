#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gpus=8
#SBATCH --gpus-per-node=a800:4
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-gpu=6
#SBATCH --mem-per-gpu=40G
srun torchrun --nnodes=$SLURM_NNODES train.py
