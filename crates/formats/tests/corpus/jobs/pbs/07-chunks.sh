#!/bin/bash
#PBS -l select=1:ncpus=4:mem=64gb+8:ncpus=16:mpiprocs=16:ompthreads=1:mem=32gb
#PBS -l place=free
mpiexec ./coupled
