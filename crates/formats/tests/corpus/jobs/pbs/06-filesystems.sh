#!/bin/bash -l
#PBS -l select=4:system=polaris
#PBS -l place=scatter
#PBS -l walltime=0:30:00
#PBS -l filesystems=home:eagle
#PBS -q debug
#PBS -A Catalyst
NNODES=$(wc -l < $PBS_NODEFILE)
mpiexec -n $((NNODES * 4)) -ppn 4 --hostfile $PBS_NODEFILE ./hello
