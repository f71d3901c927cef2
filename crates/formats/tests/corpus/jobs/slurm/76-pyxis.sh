#!/bin/bash
#SBATCH -N1 --gpus-per-node=8
#SBATCH --container-image=docker://example/pytorch:24.05
#SBATCH --container-mounts=/data:/data,/home
#SBATCH --container-workdir=/data/run
python train.py
