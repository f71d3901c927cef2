#!/bin/bash
#SBATCH --job-name=coupled
#SBATCH --time=02:00:00
#SBATCH --ntasks=1 --mem=64G --cpus-per-task=4
#SBATCH hetjob
#SBATCH --ntasks=32 --mem-per-cpu=2G
#SBATCH hetjob
#SBATCH --nodes=1 --gres=gpu:2
srun --het-group=0 ./driver : --het-group=1 ./solver : --het-group=2 ./viz
