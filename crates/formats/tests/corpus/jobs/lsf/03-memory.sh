#!/bin/bash
#BSUB -n 4
#BSUB -R "rusage[mem=8000]"
#BSUB -R "span[hosts=1]"
#BSUB -M 8000000
#BSUB -o out
./solve
