#!/bin/bash
#BSUB -C 0
#BSUB -S 8192
#BSUB -v 16G
#BSUB -F 1000000
#BSUB -c 60
#BSUB -p 100
#BSUB -o o
./run
