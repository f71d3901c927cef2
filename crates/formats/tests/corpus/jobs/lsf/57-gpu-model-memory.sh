#!/bin/bash
#BSUB -J infer
#BSUB -gpu "num=1:gmodel=TeslaV100#32G:nvlink=yes"
#BSUB -R "rusage[mem=20G]"
#BSUB -o infer.%J
python infer.py
