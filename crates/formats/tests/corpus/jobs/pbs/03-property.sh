#!/bin/sh
#PBS -l nodes=1:ppn=8:rhel7
#PBS -l pmem=2gb
#PBS -A lab42
mpirun -np 8 ./a.out
