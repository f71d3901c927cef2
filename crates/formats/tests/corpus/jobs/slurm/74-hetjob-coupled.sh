#!/bin/bash
#SBATCH --job-name=esm
#SBATCH --time=06:00:00
#SBATCH --account=climate
#SBATCH --partition=cpu --constraint=milan --ntasks=256 --cpus-per-task=2
#SBATCH --mem=200G
#SBATCH hetjob
#SBATCH --partition=gpu --nodes=4 --ntasks-per-node=4 --gpus-per-node=4
#SBATCH hetjob
#SBATCH --partition=io --ntasks=8 --mem-per-cpu=16G

srun --het-group=0 ./ocean : --het-group=1 ./atmosphere : --het-group=2 ./xios_server
