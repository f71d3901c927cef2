#!/bin/bash
#SBATCH --ntasks=4
#SBATCH --time=10
srun ./a.out
