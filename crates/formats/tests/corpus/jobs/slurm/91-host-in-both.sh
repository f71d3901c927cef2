#!/bin/bash
#SBATCH --nodes=2
#SBATCH --nodelist=n[01-04]
#SBATCH --exclude=n03,n17
srun hostname
