#!/bin/bash
#SBATCH --array=0-29:2
#SBATCH -o logs/%x-%A_%a-%N.out
#SBATCH --open-mode=append
./chunk.sh $SLURM_ARRAY_TASK_ID
