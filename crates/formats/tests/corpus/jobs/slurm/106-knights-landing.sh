#!/bin/bash -l
#SBATCH -C knl,quad,cache
#SBATCH -N 8
#SBATCH -S 4
#SBATCH --gres=craynetwork:0
#SBATCH --delay-boot=30
#SBATCH --wait-all-nodes=1
#SBATCH --network=no_vni
#SBATCH --cpu-freq=high
#SBATCH -t 00:45:00
srun -n 544 -c 4 --cpu_bind=cores ./milc
