#!/bin/bash
#SBATCH --gres=shard:1,gpu:a800:1
#SBATCH -c 4
nvidia-smi
