#!/bin/bash
#$ -N vasp
#$ -cwd
#$ -pe mpi-24 24,48,72
#$ -q batch.q@node1*,batch.q@node2*
#$ -masterq batch.q@node11
#$ -P materials
#$ -j y
echo "running on:"; cut -d' ' -f1,2 $PE_HOSTFILE
cp POSCAR.in POSCAR
mpirun -np $NSLOTS vasp_std
