#!/bin/bash
#SBATCH --gres=gpu:a100:2,fpga:1,nvme:200G
#SBATCH --gpus-per-task=a100:1
#SBATCH --ntasks=2
#SBATCH --mem-per-gpu=40G
#SBATCH --gpu-bind=closest
./bench
