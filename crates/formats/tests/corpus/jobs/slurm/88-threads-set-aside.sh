#!/bin/bash
#SBATCH --job-name=noise
#SBATCH --nodes=32
#SBATCH --ntasks-per-node=62
#SBATCH --thread-spec=2
#SBATCH --time=20
srun ./osu_allreduce -m 8:8 -i 100000
