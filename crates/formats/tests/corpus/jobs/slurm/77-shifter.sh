#!/bin/bash
#SBATCH --image=docker:example/tools:latest
#SBATCH --volume="/scratch/in:/in;/scratch/out:/out"
#SBATCH -q regular
#SBATCH -C cpu
#SBATCH -N 2
srun shifter ./tool /in /out
