#!/bin/bash
#PBS -l select=2:ncpus=64:mpiprocs=64\
:mem=200gb,walltime=\
02:00:00
#PBS -A proj-7
mpiexec -n 128 -ppn 64 ./a.out
