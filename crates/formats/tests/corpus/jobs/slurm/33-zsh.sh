#!/bin/zsh
#SBATCH -N 1-1
#SBATCH --exclusive=user
#SBATCH --mail-type=NONE
#SBATCH --deadline=2030-12-31T23:00
#SBATCH --begin=16:30
#SBATCH --input=/dev/null
#SBATCH --chdir=/work/me
ls
