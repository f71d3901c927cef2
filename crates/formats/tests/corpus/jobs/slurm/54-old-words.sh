#!/bin/bash
#SBATCH --workdir=/scratch/run
#SBATCH --share
#SBATCH --cpu_bind=cores
#SBATCH --mem_bind=local
#SBATCH --tasks=4
srun ./old
