#!/bin/bash
#BSUB -m "fast_group+3 hostb+1 others"
#BSUB -n 2
#BSUB -o o
./x
