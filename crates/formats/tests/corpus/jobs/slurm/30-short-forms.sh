#!/bin/bash
#SBATCH -Jshort -n4 -t5 -Hs
#SBATCH --job-na=shorter --wait
srun ./a.out
