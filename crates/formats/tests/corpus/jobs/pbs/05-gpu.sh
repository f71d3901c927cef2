#!/bin/bash
#PBS -l select=1:ncpus=8:mem=256gb:ngpus=1:gpu_type=A100
#PBS -q gpu_dgx@server
#PBS -P
#PBS -l walltime=12:00:00
python train.py
