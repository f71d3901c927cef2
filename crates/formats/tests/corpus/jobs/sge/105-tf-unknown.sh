#!/bin/bash
#$ -N keras
#$ -l gpus=1,gpu_mem=11G,ngc=false
#$ -l memory=20G
#$ -cwd
export CUDA_VISIBLE_DEVICES=$(nvidia-smi --query-gpu=index,memory.used \
    --format=csv,noheader | sort -t, -k2n | head -1 | cut -d, -f1)
python fit.py
