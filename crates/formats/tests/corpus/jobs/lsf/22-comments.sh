#!/bin/bash
#BSUB -n 4   # four of them
##BSUB -x
# BSUB -W 10
#BSUB-W 20
 #BSUB -W 30
#BSUB -o o
./run
