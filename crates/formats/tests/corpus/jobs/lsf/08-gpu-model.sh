#!/bin/bash
#BSUB -gpu "num=2/task:mode=exclusive_process:gmodel=TeslaV100:gmem=16G"
#BSUB -n 2
#BSUB -o o
./train
