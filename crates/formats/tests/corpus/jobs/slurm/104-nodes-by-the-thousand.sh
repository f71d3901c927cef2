#!/bin/bash
#SBATCH -N 1k-2K
#SBATCH --ntasks-per-node=4
#SBATCH --qos=hero
#SBATCH --reservation=dday,dday2
#SBATCH -t 1-0:0
#SBATCH -s
srun ./lattice
