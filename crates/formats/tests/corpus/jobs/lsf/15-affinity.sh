#!/bin/bash
#BSUB -n 8
#BSUB -R "affinity[core(4):cpubind=core:distribute=pack]"
#BSUB -R "order[ut] same[model]"
#BSUB -R "select[avx512 && maxmem>64000]"
#BSUB -o o
./hybrid
