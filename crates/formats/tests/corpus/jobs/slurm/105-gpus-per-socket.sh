#!/bin/bash
#SBATCH --nodes=2
#SBATCH --sockets-per-node=2
#SBATCH --gpus-per-socket=mi250:2
#SBATCH --ntasks-per-socket=2
#SBATCH --cpus-per-gpu=8
#SBATCH --gpu-freq=medium,memory=high
#SBATCH --time=01:15:30
srun ./hpl_rocm
