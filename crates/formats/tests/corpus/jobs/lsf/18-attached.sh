#!/bin/bash
#BSUB -n4 -W30
#BSUB -n 2,8
#BSUB -q "short medium"
#BSUB -o o
./run
