#!/bin/bash
#$ -N fft
#$ -pe fill* 2,4,8
#$ -cwd
mpirun -np $NSLOTS ./fft3d
