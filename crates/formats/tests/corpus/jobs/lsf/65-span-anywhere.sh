#!/bin/bash
#BSUB -n 6
#BSUB -R "span[hosts=-1]"
#BSUB -R 'rusage[tmp=2G,mem=1500]'
#BSUB -o o
./x
