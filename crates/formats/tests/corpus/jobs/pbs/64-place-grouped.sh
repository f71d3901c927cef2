#!/bin/sh
#PBS -l select=16:ncpus=1:mpiprocs=1:switch=A
#PBS -l place=scatter:excl:group=switch
mpirun ./ring
