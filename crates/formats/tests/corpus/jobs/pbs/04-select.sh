#!/bin/bash
#PBS -N cfd
#PBS -l select=2:ncpus=20:mpiprocs=15:model=ivy:bigmem=False
#PBS -l walltime=24:0:0
#PBS -l place=scatter:excl
mpiexec -n 30 ./cfd
