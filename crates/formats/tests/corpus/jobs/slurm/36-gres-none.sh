#!/bin/bash
#SBATCH --gres=gpu:0
#SBATCH --gres=tmpspace:200,fpga:u280:1
#SBATCH --gpus-per-socket=1
#SBATCH --export=NONE
./a.out
