#!/bin/bash
#BSUB -R "rusage[mem=4000] span[hosts=1]
#BSUB -R rusage[mem=4000] span[hosts=1]
#BSUB -n
#BSUB -J my job
#BSUB -o o
./x
