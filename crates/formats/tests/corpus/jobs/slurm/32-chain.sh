#!/bin/bash
#SBATCH -J part2 -d aftercorr:812_7,after:813+15
#SBATCH --array=7,8
./part2 $SLURM_ARRAY_TASK_ID
