#!/bin/bash
#BSUB -q gpu
#BSUB -gpu "num=1:mode=shared:mps=no:j_exclusive=yes"
#BSUB -n 4 -R "rusage[mem=4096] span[hosts=1]"
#BSUB -W 24:00
#BSUB -o train.out
python train.py
