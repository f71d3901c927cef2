#!/bin/bash
#BSUB -P GEO101
#BSUB -W 2:00
#BSUB -nnodes 46
#BSUB -alloc_flags "gpumps smt4"
#BSUB -J run
jsrun -n 276 -a 1 -c 7 -g 1 ./gpu-code
