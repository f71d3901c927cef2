#!/bin/bash
export LC_ALL=C
#SBATCH --ntasks=64
#SBATCH --time=01:00:00
srun ./a.out
