#!/bin/bash
#SBATCH --array=0-9
#SBATCH --mail-type=end,ARRAY_TASKS,STAGE_OUT,FAILED
#SBATCH --mail-user=ops
./step "$SLURM_ARRAY_TASK_ID"
