#!/bin/bash
#PBS -l select=2:ncpus=16:mpiprocs=16
#PBS -l nodes=2:ppn=16
#PBS -l walltime=1:00:00
mpirun ./solver
