#!/bin/bash
#SBATCH --tiem=10:00
#SBATCH --ntask=4
#SBATCH --bogus=1
#SBATCH foo --nodes=2
#SBATCH -n $NPROCS
true
