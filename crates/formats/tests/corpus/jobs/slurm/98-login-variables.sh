#!/bin/bash
#SBATCH --get-user-env=30L
#SBATCH --ntasks=1
#SBATCH --time=5
module load R
Rscript -e 'sessionInfo()'
