#!/bin/bash
#BSUB -R "rusage[ngpus_physical=4,mem=10G]"
#BSUB -o o
./train
