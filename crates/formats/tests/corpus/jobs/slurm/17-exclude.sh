#!/bin/bash
#SBATCH --exclude=n1,n[3-5]
#SBATCH --nodelist=m[08-10]
#SBATCH --nodes=3
#SBATCH --overcommit
#SBATCH --switches=1@10:00
#SBATCH --contiguous
srun hostname
