#!/bin/sh
#SBATCH -a 8,18,28
#SBATCH -t 30
sed -n "${SLURM_ARRAY_TASK_ID}p" params.txt | xargs ./model
