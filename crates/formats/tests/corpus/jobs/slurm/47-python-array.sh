#!/usr/bin/env python3
#SBATCH --array=0,4,8-20:4,100
#SBATCH --chdir=/data/sweep
#SBATCH --output=%a/result-%A.txt
#SBATCH --nice=100
#SBATCH --begin=now+1hour
#SBATCH --deadline=2031-05-01T08:00:00
import os
print(os.environ["SLURM_ARRAY_TASK_ID"])
