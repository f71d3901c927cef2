#!/bin/bash
#BSUB -J hybrid
#BSUB -n 8
#BSUB -R "span[ptile=2]"
#BSUB -R "affinity[core(2)*3:cpubind=core:membind=localonly:distribute=pack]"
#BSUB -o o
export OMP_NUM_THREADS=6
export OMP_PROC_BIND=close
mpirun ./hybrid
