#!/bin/bash
#SBATCH --exclusive=mcs
#SBATCH --exclusive=topo
#SBATCH --exclusive=everybody
#SBATCH --exclusive=oversubscribe
#SBATCH --no-kill=maybe
srun hostname
