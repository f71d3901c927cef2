#!/bin/bash
#SBATCH --nodes=6
#SBATCH --constraint="[rack1*4&rack2*2]"
#SBATCH --reservation=maint-test
#SBATCH --cluster-constraint=!old
#SBATCH --prefer=nvme
#SBATCH --use-min-nodes
srun -l hostname -s | sort -n
