#!/bin/bash
#BSUB -M 16GB
#BSUB -R "select[type==any] rusage[mem=4GB/task] span[hosts=1]"
#BSUB -o out
./solve
