#!/bin/bash
#BSUB -J heat
#BSUB -n 64
#BSUB -R "span[ptile=16]"
#BSUB -q normal
#BSUB -P project7
#BSUB -W 2:00
#BSUB -oo heat.%J.out
#BSUB -eo heat.%J.err
mpirun ./heat
