#!/bin/bash
#PBS -N climate
#PBS -P ab12
#PBS -q normalbw
#PBS -l select=1:ncpus=28:mpiprocs=28:mem=120gb+3:ncpus=28:mpiprocs=14:ompthreads=2:mem=60gb
#PBS -l place=scatter:excl
#PBS -l walltime=05:30:00
#PBS -j oe
#PBS -o logs/
module load openmpi
mpirun -np 70 ./cesm.exe
