#!/bin/bash
#SBATCH --job-name=train
#SBATCH --partition=gpu,gpu-long
#SBATCH --gres=gpu:h100:2
#SBATCH --cpus-per-task=8
#SBATCH --mem=0   # all memory
#SBATCH --time=24:0:0
#SBATCH --mail-type=END,FAIL
#SBATCH --mail-user=someone@example.org
source venv/bin/activate
python train.py --epochs 90
