#!/bin/bash
#BSUB -P PHY000
#BSUB -J qcd
#BSUB -nnodes 32
#BSUB -W 120
#BSUB -alloc_flags "gpudefault smt1 nvme"
#BSUB -core_isolation 2
#BSUB -jsm y
#BSUB -o qcd.%J
module load spectrum-mpi cuda
export OMP_NUM_THREADS=7
cp lattice.bin /mnt/bb/$USER/
jsrun -n 192 -r 6 -a 1 -c 7 -g 1 -b packed:7 ./qcd /mnt/bb/$USER/lattice.bin
