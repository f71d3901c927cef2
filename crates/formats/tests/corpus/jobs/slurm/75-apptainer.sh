#!/bin/bash
#SBATCH --job-name=sif
#SBATCH --gres=gpu:1,shard:0
#SBATCH --cpus-per-task=8
#SBATCH --mem=24GB
#SBATCH --time=02:00:00
#SBATCH --chdir=/scratch/project
#SBATCH --output="logs dir/%j - %x.out"

export APPTAINER_BIND=/scratch,/data:/data:ro
export APPTAINERENV_CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES
apptainer exec --nv images/torch.sif python eval.py --split test
