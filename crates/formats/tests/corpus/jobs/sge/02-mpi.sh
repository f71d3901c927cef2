#!/bin/bash
#$ -N heat
#$ -pe mpi-24 24
#$ -l h_rt=12:00:00
#$ -l h_vmem=1G
#$ -cwd -V
mpirun -np $NSLOTS ./heat
