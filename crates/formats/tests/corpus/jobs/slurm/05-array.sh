#!/bin/sh
#SBATCH --array=1-100%10
#SBATCH --output=out/%A_%a.txt
#SBATCH --time=1-12
#SBATCH --mem=1500M
./sweep --index "$SLURM_ARRAY_TASK_ID"
