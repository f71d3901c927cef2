#!/bin/bash
#SBATCH --job-name=coupled
#SBATCH -N1 -n1 --mem=16G --partition=fat
#SBATCH hetjob
#SBATCH -N4 --ntasks-per-node=16 --partition=compute
srun ./master : ./ocean
