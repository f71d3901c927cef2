#!/bin/bash
#SBATCH -a 1,3,5-9,20-40:10%2
#SBATCH --dependency=aftercorr:4711
#SBATCH -o %A_%a.out
./step2 "$SLURM_ARRAY_TASK_ID"
