#!/bin/bash
# Written for the first releases of Slurm, whose beginning sbatch still reads.
#SLURM -n 16
#SLURM	--time=45
#SLURM is not the name of a directive here
#SBATCH --job-name=old
srun ./legacy
