#!/bin/bash
#SBATCH --ntasks=2
# a comment, and an empty line, end nothing

#SBATCH --time=10:00
cd /scratch
#SBATCH --mem=4G
srun hostname
