#!/bin/bash
#SBATCH --job-name=couple --time=90
#SBATCH -n 4 --mem-per-cpu=2G
#SBATCH HETJOB
#SBATCH -n 1 --gres=gpu:1
#SBATCH PackJob
#SBATCH -n 2 -C viz
srun ./solver : ./surrogate : ./render
